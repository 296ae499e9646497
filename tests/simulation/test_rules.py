"""For each rule of dmq-internals(7) a bug is planted that breaks it, and a test sees it.

Seen in stories only, for chance hardly ever brings the need for them about:
  - L6: what an old leader still sends meets a copy that follows another lease, and most links that stall
    break before a lease is over;
  - H1, H2: most of the old homes must not know of the new ones, or one of them not, as it comes to lead;
  - H3: a home is proposed once it follows and lacks nothing; only what was written and answered just before,
    and lost with a link, may be missing then;
  - C2, that a node forgets the debts of a queue that it does not know yet: whoever meets says first which
    queues it knows;
  - T2, that clocks far ahead are believed: everybody then goes on from their time, and whoever was ahead
    stamps its definitions again once its clock is right, unless it does not come back.
Seen one level lower only, in the world of leases: L2, L3 and L5; of H2, that an unfinished change is taken as
finished; of H3, that agreeing grants nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.gossip import test_swim_planted as gossip
from tests.simulation import (
    planted,
    planted_bounds,
    planted_moves,
    planted_ops,
    planted_rules,
    test_bounds,
    test_planted,
    test_planted_moves,
    test_planted_ops,
    test_planted_rules,
)
from tests.simulation import test_lease_world as leases
from tests.simulation.nodes import planted_nodes as nodes
from tests.simulation.nodes import test_planted_nodes

ROOT = Path(__file__).parents[2]
RULES: dict[str, tuple[Any, ...]] = {
    "I1": (planted.i1_logs_are_named_alike_in_every_run,),
    "I2": (
        nodes.an_old_backup_is_welcome,
        nodes.two_with_one_id_are_welcome,
        nodes.a_damaged_memory_is_not_noticed,
        nodes.a_new_disk_does_not_retire_the_old,
    ),
    "I3": (
        nodes.each_seed_founds,
        nodes.data_of_another_cluster_is_no_hindrance,
        nodes.a_stranger_ends_who_dials_it,
    ),
    "L1": (leases.who_has_just_started_grants, planted_moves.l1_who_has_just_started_grants),
    "L2": (leases.an_earlier_answer_counts,),
    "L3": (leases.renewals_name_nothing,),
    "L4": (
        leases.the_holder_counts_from_the_answer,
        leases.only_the_monotonic_clock,
        planted_rules.l4_nobody_looks_at_the_lease,
        planted_rules.l4_nobody_looks_as_it_leaves,
    ),
    "L5": (leases.a_running_lease_is_no_obstacle,),
    "L6": (leases.late_writes_are_taken, planted_moves.l6_a_copy_follows_whoever_tells_it),
    "Q1": (planted.q1_no_majority_is_needed, planted.answers_before_the_quorum),
    "Q2": (planted_rules.q2_what_was_under_way_is_called_not_stored,),
    "H1": (leases.the_new_set_is_enough, planted_moves.h1_the_new_homes_are_enough),
    "H2": (
        leases.a_newer_record_is_not_adopted,
        leases.an_unfinished_change_is_taken_as_finished,
        planted_moves.h2_a_newer_record_is_not_adopted,
    ),
    "H3": (
        leases.whoever_is_asked_agrees,
        leases.what_an_earlier_proposal_brought_is_enough,
        leases.agreeing_grants_nothing,
        planted_moves.h3_the_mark_does_not_count,
    ),
    "H4": (leases.former_homes_forget, planted_moves.h4_former_homes_forget),
    "H5": (planted.h5_everybody_makes_up_the_first_homes,),
    "M1": (nodes.who_stops_has_left,),
    "M2": (
        nodes.nobody_is_forgotten,
        nodes.too_few_may_remain,
        nodes.the_forgotten_are_not_told,
        nodes.homes_without_majority_wait_for_the_dead,
    ),
    "M3": (
        nodes.the_cut_off_go_on_granting,
        nodes.who_has_the_only_copy_goes_on_granting,
        nodes.whoever_starts_may_grant,
    ),
    "M4": (
        nodes.homes_without_majority_stay,
        nodes.a_minority_forms_homes_again,
        nodes.one_of_those_left_need_not_be_asked,
    ),
    "M5": (nodes.one_of_two_cannot_decide,),
    "C1": (
        planted.debts_are_forgotten_at_once,
        planted_rules.c1_taken_is_told_before_it_is_safe,
        planted_rules.c1_stand_ins_confirm_before_they_write,
        planted_moves.c1_homes_change_before_they_have_everything,
        planted_moves.c1_former_homes_drop_at_once,
    ),
    "C2": (
        planted_rules.c2_debts_of_deleted_queues_stay,
        planted_moves.c2_debts_of_unknown_queues_are_forgotten,
    ),
    "C3": (planted_rules.c3_the_dead_are_taken_in_again,),
    "C4": (
        planted.c4_whoever_keeps_a_debt_says_what_else_is_owed,
        planted_moves.c4_what_is_not_owed_never_was,
    ),
    "C5": (
        planted.c5_repeated_debts_are_taken_in,
        planted.recent_sends_are_not_merged,
        planted_rules.c5_what_is_owed_is_looked_for,
    ),
    "F1": (planted.f1_what_is_lacking_does_not_hold_up_a_fifo_queue,),
    "F2": (
        planted_rules.f2_what_lies_beyond_the_end_is_adopted,
        planted_rules.f2_the_farthest_end_counts,
        planted_rules.f2_serves_before_a_majority_knows_the_ends,
        planted_rules.f2_what_nobody_led_with_counts,
    ),
    "F3": (planted_rules.f3_fifo_queues_grow,),
    "N1": (planted.notes_are_not_written, planted_ops.no_notes_outlive_a_stop),
    "N2": (planted_ops.who_hands_over_does_not_wait_for_notes,),
    "N3": (
        planted_ops.what_moves_dies_first,
        planted_ops.moves_are_not_recognised,
        planted_rules.n3_nobody_hears_of_the_intent,
    ),
    "T1": (planted_ops.wrong_clocks_lead,),
    "T2": (planted_rules.t2_nobody_stamps_again, planted_moves.t2_clocks_far_ahead_are_believed),
    "T3": (
        planted_ops.a_purge_forgets_debts,
        planted_ops.a_purge_kills_what_is_read_only,
        planted_rules.t3_deletions_are_forgotten,
    ),
}
BESIDES = (
    planted.answers_before_the_disk,
    planted.a_restart_forgets_debts,
    planted.a_range_of_a_dead_set_is_dropped,
    planted.dead_sets_are_not_united,
    planted_ops.a_group_goes_on_while_one_of_it_is_out,
    planted_ops.what_was_read_last_comes_first,
    planted_bounds.the_receives_of_who_is_gone_stay,
    planted_bounds.what_is_settled_stays_in_a_table,
    planted_bounds.the_sessions_of_peers_that_are_gone_stay,
    planted_bounds.every_sequence_of_a_producer_is_remembered,
)
"""Of no rule alone: an answer before its sync, a forgotten hint, what is dead and comes back, order (P9),
memory that fills (P8)."""


def named() -> list[str]:
    """Return the rules that the manual names."""
    page = (ROOT / "man" / "dmq-internals.7").read_text()
    section = page[page.index(".Sh RULES") : page.index(".Ss Order after an unknown outcome")]
    return re.findall(r"^\.It Sy ([A-Z]\d)$", section, re.MULTILINE)


def test_each_rule_of_the_manual_has_a_planted_bug_that_is_seen() -> None:
    tested = {
        bug.plant
        for table in (
            *(test_planted, test_planted_ops, test_planted_rules, test_bounds),
            *(test_planted_nodes, test_planted_moves, leases),
        )
        for bug in table.PLANTED
    }
    assert sorted(named()) == sorted(RULES)
    assert {plant for plants in (*RULES.values(), BESIDES) for plant in plants} <= tested


def test_of_each_rule_one_is_seen_by_make_test() -> None:
    slow = {bug.plant for bug in test_planted_nodes.PLANTED if not bug.quick}
    assert not [rule for rule, plants in RULES.items() if slow.issuperset(plants)]


def test_news_that_are_never_sent_again_are_missed() -> None:
    assert gossip.send_news_once_only in [bug for bug, *_ in gossip.PLANTED]
