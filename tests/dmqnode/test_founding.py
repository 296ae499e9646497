"""Who founds a cluster, of nodes that know one another by names which need not be their addresses."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from dmqnode.founding import ALIAS_AFTER, Answer, Founding
from dmqnode.ids import NodeId

H = ("h1:7367", "h2:7367", "h3:7367")


class Hosts:
    """Nodes that wait, and which of them is where, seen from each.

    Arguments:
        given: the seeds of each, by its address.
        at: which address a node reaches under a name; the name itself where that is missing.
    """

    def __init__(
        self, given: Mapping[str, tuple[str, ...]], at: Callable[[str, str], str] = lambda own, name: name
    ) -> None:
        self.nodes = {own: Founding(NodeId(own.encode()), own, seeds) for own, seeds in given.items()}
        self._given = given
        self._at = at

    def ask(self, own: str, reaches: Callable[[str, str], bool] = lambda own, other: True) -> None:
        """Let one node ask all its seeds."""
        node = self.nodes[own]
        for seed in self._given[own]:
            there = self._at(own, seed)
            if seed == own:
                continue
            if there in self.nodes and (there == own or reaches(own, there)):
                other = self.nodes[there]
                node.met(seed, Answer(other.me, other.seeds, other.founder, other.lost))
            else:
                node.silent(seed)

    def founders(self, rounds: int = 3) -> set[str]:
        """Return who would found after some rounds."""
        for _ in range(rounds):
            for own in self.nodes:
                self.ask(own)
        return {own for own, node in self.nodes.items() if node.may_found()}


def short(own: str, name: str) -> str:
    """What hosts reach that are listed by names and call themselves otherwise."""
    return name.replace("h", "box")


def own_for_localhost(own: str, name: str) -> str:
    return own if name.startswith("localhost") else name


def test_nodes_that_are_listed_under_other_names_than_their_own_found_one_cluster() -> None:
    hosts = Hosts({f"box{n}:7367": H for n in (3, 1, 2)}, short)
    assert hosts.founders() == {"box1:7367"}
    assert hosts.nodes["box2:7367"].seeds == list(H)


def test_nodes_that_are_listed_as_they_are_called_or_not_at_all_found_one_cluster() -> None:
    assert Hosts(dict.fromkeys(H, H)).founders() == {H[0]}
    assert Hosts({own: tuple(h for h in H if h != own) for own in H}).founders() == {H[0]}


def test_a_minority_does_not_found() -> None:
    hosts = Hosts({"box1:7367": H}, short)
    assert not hosts.founders()
    assert hosts.nodes["box1:7367"].why().startswith("a majority of h1:7367,h2:7367,h3:7367 has to be")
    hosts = Hosts({f"box{n}:7367": H for n in (2, 3)}, short)
    assert not hosts.founders()
    assert hosts.nodes["box2:7367"].why() == "h1:7367 is to found a cluster, and does not answer"


def test_two_names_of_one_node_are_no_majority() -> None:
    both = ("h1:7367", "h1b:7367", "h2:7367")
    hosts = Hosts({"h1:7367": both}, lambda own, name: name.replace("b", ""))
    assert not hosts.founders()
    hosts = Hosts({"h1:7367": both, "h2:7367": both}, lambda own, name: name.replace("b", ""))
    assert hosts.founders() == {"h1:7367"}


def test_a_node_that_is_to_join_only_itself_founds() -> None:
    assert Hosts({"box1:7367": H[:1]}, short).founders(ALIAS_AFTER) == {"box1:7367"}


def test_of_nodes_that_know_one_address_which_is_each_of_them_by_turns_none_founds() -> None:
    """A balancer that chooses: each that was sent to itself founded a cluster of its own."""
    split = 0
    for seed in range(100):
        rng = random.Random(seed)
        hosts = Hosts(dict.fromkeys(H, ("all:7367",)), lambda own, name, r=rng: r.choice(H))
        founders = hosts.founders(30)
        split += bool(founders)
        assert len(founders) <= 1
        for own in H:
            if own not in founders:
                assert hosts.nodes[own].why().startswith("all:7367 is this node at one time and another")
    assert split <= 1, "that each was sent to itself many times in turn is rare"


def test_one_address_for_all_besides_a_name_of_one_node_is_in_nobodys_way() -> None:
    for seeds in (("h1:7367", "z:7367"), ("a:7367", "h2:7367", "h3:7367", "h1:7367")):
        for seed in range(50):
            rng = random.Random(seed)

            def at(own: str, name: str, rng: random.Random = rng) -> str:
                return (
                    rng.choice(("box1:7367", "box2:7367", "box3:7367"))
                    if name[0] in "az"
                    else short(own, name)
                )

            hosts = Hosts(dict.fromkeys(("box1:7367", "box2:7367", "box3:7367"), seeds), at)
            founders: set[str] = set()
            for _ in range(30):
                founders |= hosts.founders(1)
            assert len(founders) <= 1
            assert seeds[0] != H[0] or founders == {"box1:7367"}


def test_who_meets_a_member_at_its_only_seed_by_turns_does_not_found() -> None:
    node = Founding(NodeId(b"me"), "me:1", ("all:1",))
    for _ in range(2 * ALIAS_AFTER):
        node.belongs("all:1")
        node.met("all:1", Answer(node.me, node.seeds, node.founder))
    assert not node.may_found()


def test_of_nodes_that_all_take_a_name_for_their_own_none_founds() -> None:
    seeds = ("g:7367", "h2:7367", "h3:7367")
    hosts = Hosts(
        {f"h{n}:7367": seeds for n in (1, 2, 3)}, lambda own, name: own if name == seeds[0] else name
    )
    assert not hosts.founders()
    assert "g:7367 is one node here and another to h3:7367" in hosts.nodes["h2:7367"].why()


def test_a_name_that_two_sides_understand_differently_makes_no_two_clusters() -> None:
    """Two would have a majority each, and one of the other side to tell them."""
    seeds = ("a:1", "h2:1", "h3:1", "h4:1", "h5:1")

    def at(own: str, name: str) -> str:
        return name if name != "a:1" else ("x:1" if own in ("x:1", "h2:1", "h3:1") else "y:1")

    hosts = Hosts(dict.fromkeys(("x:1", "y:1", "h2:1", "h3:1", "h4:1", "h5:1"), seeds), at)
    assert not hosts.founders()


def test_nodes_with_other_seeds_are_told_what_to_write() -> None:
    hosts = Hosts({"h1:7367": H[1:], "h2:7367": ("h1:7367", "h4:7367")})
    assert not hosts.founders()
    why = hosts.nodes["h1:7367"].why()
    assert why.startswith("h2:7367 waits for h1:7367,h2:7367,h4:7367, this node for h1:7367,h2:7367,h3:7367")
    assert "--join" in why
    assert "--advertise" in why


def test_a_name_may_come_to_mean_another_node() -> None:
    hosts = Hosts({"box1:7367": H}, short)
    node = hosts.nodes["box1:7367"]
    hosts.ask("box1:7367")
    assert node.is_me("h1:7367")
    node.met("h1:7367", Answer(NodeId(b"another"), list(H), NodeId(b"another")))
    assert not node.is_me("h1:7367")
    assert node.seeds == ["box1:7367", *H]
    assert not node.may_found()


def test_where_a_seed_is_of_a_cluster_no_other_is_founded() -> None:
    """Two of three were given empty disks at once, and the third has everything, but no majority."""
    hosts = Hosts(dict.fromkeys(H[:2], H))
    assert hosts.founders() == {H[0]}
    first = hosts.nodes[H[0]]
    first.belongs(H[2])
    assert not first.may_found()
    assert first.why().startswith("h3:7367 is of a cluster, which cannot let this node in")
    assert "dmq cluster forget NAME --destroyed" in first.why()
    first.silent(H[2])
    assert not first.may_found(), "it may be away for a moment"
    first.met(H[2], Answer(NodeId(b"new"), list(H), first.me))
    assert first.may_found(), "it has no data any more either"


def test_nothing_is_founded_while_a_seed_may_be_opening_its_store() -> None:
    hosts = Hosts(dict.fromkeys(H[:2], H))
    assert hosts.founders() == {H[0]}
    first = hosts.nodes[H[0]]
    first.silent(H[2], mute=True)
    assert not first.may_found()
    assert first.why() == "h3:7367 takes connections, and does not answer: it may have data"
    first.silent(H[2])
    assert first.may_found(), "nobody is there"


def test_who_has_lost_its_data_does_not_found_while_somebody_may_have_it() -> None:
    for loser in range(2):
        hosts = Hosts(dict.fromkeys(H[:2], H))
        hosts.nodes[H[loser]].lost = True
        assert not hosts.founders()
        why = hosts.nodes[H[0]].why()
        assert "had a store and has lost it, and h3:7367, which may have a copy, does not answer" in why
    hosts = Hosts(dict.fromkeys(H, H))
    for node in hosts.nodes.values():
        node.lost = True
    assert hosts.founders() == {H[0]}, "nobody has anything"


def test_whatever_is_reached_one_node_at_most_founds(seeds: range) -> None:
    found = 0
    for seed in seeds:
        rng = random.Random(seed)
        count = rng.randint(2, 5)
        names = tuple(f"h{n}:7367" for n in range(count))
        called = {name: rng.choice((name, short("", name))) for name in names}
        given = {}
        for name, own in called.items():
            omitted = own == name and rng.random() < 0.3
            given[own] = tuple(n for n in names if not (omitted and n == name))
        hosts = Hosts(given, lambda own, name, called=called: called.get(name, name))
        founders: set[str] = set()
        for _ in range(30):
            chance = rng.choice((0.2, 0.6, 0.9))
            hosts.ask(rng.choice(list(given)), lambda own, other, c=chance, r=rng: r.random() < c)
            founders |= {own for own, node in hosts.nodes.items() if node.may_found()}
        assert len(founders) <= 1
        assert hosts.founders() == {called[names[0]]} >= founders
        found += bool(founders)
    assert found > len(seeds) // 10
