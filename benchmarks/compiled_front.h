// What the compiled path does for clients, whoever leads: asks the leaders, and puts together what they say.
#pragma once
#include "compiled_leader.h"

struct Queue {
  string name;
  std::vector<std::unique_ptr<Partition>> parts;
};
static std::unordered_map<string, std::unique_ptr<Queue>> queues;
static std::unordered_map<string, Partition*> by_id;
static std::vector<Connection*> links;  // to the other nodes
static std::vector<int> ports;

static uint32_t crc_of(const Slice& s) {
  return uint32_t(crc32_z(0, reinterpret_cast<const Bytef*>(s.data()), s.size()));
}

static Queue* make_queue(const string& name, size_t partitions) {
  auto& q = queues[name];
  if (q) return q.get();
  q.reset(new Queue);
  q->name = name;
  for (size_t i = 0; i < partitions; i++) {
    auto p = new Partition;
    q->parts.emplace_back(p);
    be64(p->id, uint64_t(crc_of(name)) << 20 | (queues.size() & 0xfffff));
    p->id.resize(8);
    p->id.push_back(char(i >> 8)), p->id.push_back(char(i));
    p->queue = name;
    p->leader = int((crc_of(name) + i) % size_t(nodes));
    if (p->leader == me) led.push_back(p);
    by_id[p->id] = p;
  }
  return q.get();
}

static Queue* queue_of(const Slice& name) {
  auto found = queues.find(name.ToString());
  if (found == queues.end()) die("a queue that nobody made");
  return found->second.get();
}

// --- what is asked of leaders ---------------------------------------------------------------------------

static const double EMPTY_FOR = 0.1;  // seconds
struct Poll {  // a receive of several partitions
  Connection* c;
  Wanted wanted;
  Queue* queue;
  double until;
  std::vector<Partition*> order;
  size_t asked = 0, woken = 0;
  std::vector<uint64_t> watching;
  bool over = false, given_up = false;
};
struct Acks {  // of partitions that different nodes lead
  Connection* c;
  uint64_t number;
  int left;
};
struct Ask {
  Connection* c;
  uint64_t number;
  Partition* p;
  std::shared_ptr<Poll> poll;
  std::shared_ptr<Acks> acks;
  bool watch;
};
static std::unordered_map<uint64_t, Ask> asks;
static uint64_t last_ask;

static uint64_t note(const Ask& ask) {
  asks.emplace(++last_ask, ask);
  return last_ask;
}

static void tell(Connection* c, Partition* p) {
  if (!c->leads || !c->told.insert(p->id).second || p->leader == me) return;
  string head;
  put_array(head, 7), put_int(head, 10), put_int(head, 0);
  put_text(head, p->queue), put_bytes(head, p->id), put_int(head, queues[p->queue]->parts.size());
  put_text(head, "n" + std::to_string(p->leader));
  put_text(head, "127.0.0.1:" + std::to_string(ports[size_t(p->leader)]));
  put_frame(c->out, head, {});
}

static string asked(char what, uint64_t ask, Partition* p) {
  string head(1, what);
  raw(head, ask);
  return p ? head + p->id : head;
}

static void to_node(int node, const string& a, const Slice& b = {}) {
  Connection* c = links[size_t(node)];
  raw_frame(c->out, a, b);
  stir(c);
}

static void ask_receive(Ask ask, const Wanted& wanted) {
  Partition* p = ask.p;
  uint64_t n = note(ask);
  if (p->leader == me) return ask.watch ? watch({nullptr, n}, p) : receive({nullptr, n}, p, wanted);
  string head = asked(ask.watch ? 'W' : 'R', n, p);
  raw(head, wanted);
  to_node(p->leader, head);
}

static void cancel(uint64_t n) {
  auto found = asks.find(n);
  if (found == asks.end()) return;
  Partition* p = found->second.p;
  bool watched = found->second.watch;
  if (watched) asks.erase(found);
  if (p->leader == me) give_up(p, nullptr, n, 0);
  else to_node(p->leader, asked('C', n, p));
}

// Begin anew to ask each, from one on; last those that lately had nothing.
static void put_in_order(Poll& poll, size_t begin) {
  auto& parts = poll.queue->parts;
  poll.order.clear(), poll.asked = 0;
  for (size_t i = 0; i < parts.size(); i++) poll.order.push_back(parts[(begin + i) % parts.size()].get());
  double now = now_s();
  std::stable_partition(poll.order.begin(), poll.order.end(), [&](auto p) { return p->empty_until <= now; });
}

static void take_next(const std::shared_ptr<Poll>& poll) {
  if (poll->asked < poll->order.size() && !poll->given_up) {
    Partition* p = poll->order[poll->asked++];
    Wanted now = poll->wanted;
    now.wait = 0;
    return ask_receive({poll->c, now.number, p, poll, nullptr, false}, now);
  }
  size_t woken = poll->woken;
  for (auto& p : poll->queue->parts) {
    if (poll->woken != woken) break;  // by one that is led here
    poll->watching.push_back(last_ask + 1);
    ask_receive({poll->c, poll->wanted.number, p.get(), poll, nullptr, true}, poll->wanted);
  }
}

static void stop_watching(Poll& poll) {
  std::vector<uint64_t> watching;
  watching.swap(poll.watching);
  for (auto n : watching) cancel(n);
}

static void over(const std::shared_ptr<Poll>& poll, bool cancelled) {
  poll->over = true;
  stop_watching(*poll);
  string head;
  if (cancelled) put_array(head, 2), put_int(head, 6), put_int(head, poll->wanted.number);
  else head = nothing(poll->queue->parts[0].get(), poll->wanted.number);
  answer({poll->c, 0}, head);
}
static std::vector<std::shared_ptr<Poll>> polls;

static void answered(uint64_t n, bool empty, const Slice& payload) {
  auto found = asks.find(n);
  if (found == asks.end()) return;  // given up
  Ask ask = std::move(found->second);
  asks.erase(found);
  if (ask.acks) {
    if (!--ask.acks->left) answer({ask.acks->c, 0}, settled(ask.acks->number));
    return;
  }
  if (auto& poll = ask.poll) {
    if (poll->over) return;
    if (ask.watch) {
      size_t at = 0;
      while (poll->queue->parts[at].get() != ask.p) at++;
      stop_watching(*poll);
      poll->woken++;
      ask.p->empty_until = 0;
      put_in_order(*poll, at);
      return take_next(poll);
    }
    ask.p->empty_until = empty ? now_s() + EMPTY_FOR : 0;
    if (empty && poll->given_up) return over(poll, true);
    if (empty && poll->until <= now_s() && poll->asked >= poll->order.size()) return over(poll, false);
    if (empty) return take_next(poll);
    poll->over = true;
  }
  tell(ask.c, ask.p);
  raw_frame(ask.c->out, payload, Slice());
  stir(ask.c);
}

// --- what clients ask -----------------------------------------------------------------------------------

static void on_send(Connection* c, uint64_t number, Cbor& h, const Slice& payload, const char* blobs) {
  Queue* q = queue_of(h.string_());
  Cbor ahead = h;
  Partition* p = q->parts[crc_of(ahead.string_()) % q->parts.size()].get();
  if (p->leader == me) {
    c->told.insert(p->id);
    return take_in({c, 0}, p, number, h, blobs);
  }
  to_node(p->leader, asked('S', note({c, number, p, nullptr, nullptr, false}), p), payload);
}

static void on_receive(Connection* c, uint64_t number, Cbor& h) {
  static size_t turn;
  Queue* q = queue_of(h.string_());
  Wanted wanted{number, h.integer(), h.integer(), 0, 0};
  wanted.wait = h.number(), wanted.visibility = h.number();
  wanted.bytes = std::min<uint64_t>(wanted.bytes, 8 << 20);
  if (wanted.visibility < 0) wanted.visibility = 30;
  Partition* p = q->parts[0].get();
  if (q->parts.size() == 1 && p->leader == me) return receive({c, 0}, p, wanted);
  if (q->parts.size() == 1) return ask_receive({c, number, p, nullptr, nullptr, false}, wanted);
  auto poll = std::make_shared<Poll>();
  poll->c = c, poll->wanted = wanted, poll->queue = q, poll->until = now_s() + wanted.wait;
  put_in_order(*poll, ++turn);
  polls.push_back(poll);
  take_next(poll);
}

static void on_ack(Connection* c, uint64_t number, Cbor& h) {
  std::map<int, std::vector<Held>> by_leader;
  for (uint64_t many = h.integer(); many; many--) {
    h.next();
    Partition* p = by_id.at(h.string_().ToString());
    h.skip(), h.skip();
    uint64_t first = h.integer(), count = h.integer();
    by_leader[p->leader].push_back({p, first, count});
    tell(c, p);
  }
  auto acks = std::make_shared<Acks>(Acks{c, number, int(by_leader.size())});
  for (auto& [leader, held] : by_leader) {
    if (leader == me && by_leader.size() == 1) return settle({c, 0}, number, held);
    uint64_t n = note({c, number, held[0].p, nullptr, acks, false});
    if (leader == me) {
      settle({nullptr, n}, number, held);
      continue;
    }
    string head = asked('A', n, nullptr);
    for (auto& [p, first, count] : held) head += p->id, raw(head, first), raw(head, count);
    to_node(leader, head);
  }
}

static void on_cancel(Connection* c, uint64_t number) {
  for (auto& poll : polls)
    if (poll->c == c && poll->wanted.number == number && !poll->over) {
      poll->given_up = true;
      if (!poll->watching.empty()) over(poll, true);
      return;
    }
  for (auto& [n, ask] : asks)
    if (ask.c == c && ask.number == number) return cancel(n);
  for (auto p : led)
    if (give_up(p, c, 0, number)) return;
}

// What is asked for a client that is gone is given up.
static void part(Connection* c) {
  for (auto& poll : polls)
    if (poll->c == c && !poll->over) poll->given_up = poll->over = true, stop_watching(*poll);
  std::vector<uint64_t> its;
  for (auto& [n, ask] : asks)
    if (ask.c == c) its.push_back(n);
  for (auto n : its) cancel(n);
}

static void on_frame(Connection* c, const Slice& payload) {
  uint32_t size = rd32(payload.data());
  auto start = reinterpret_cast<const uint8_t*>(payload.data() + 4);
  Cbor h{start, start + size};
  h.next();
  uint64_t tag = h.integer(), number = h.integer();
  string head;
  switch (tag) {
    case 1: {  // Hello
      h.skip(), h.skip(), h.skip(), h.skip();
      for (uint64_t many = h.integer(); many; many--) c->leads |= h.string_() == Slice("leads");
      put_array(head, 9), put_int(head, 2), put_int(head, 0), put_int(head, 1);
      put_text(head, "compiled"), put_text(head, "n" + std::to_string(me)), put_array(head, 0);
      put_int(head, 16 << 20), put_int(head, 4 << 20), put_int(head, 0);
      break;
    }
    case 3:  // Ping
      put_array(head, 2), put_int(head, 4), put_int(head, number);
      break;
    case 5:
      return on_cancel(c, number);
    case 16:
      return on_send(c, number, h, payload, payload.data() + 4 + size);
    case 18:
      return on_receive(c, number, h);
    case 20:
      return on_ack(c, number, h);
    case 32: {  // CreateQueue
      string name = h.string_().ToString();
      uint64_t partitions = 1;
      for (uint64_t many = h.integer(); many; many--) {
        if (h.string_() == Slice("partitions")) partitions = h.integer();
        else h.skip();
      }
      make_queue(name, partitions);
      string made = "q";
      raw(made, partitions);
      for (int n = 0; n < nodes; n++)
        if (n != me) to_node(n, made, name);
      put_array(head, 3), put_int(head, 37), put_int(head, number);
      put_head(head, 5, 0);
      break;
    }
    case 38:  // ListQueues
      put_array(head, 4), put_int(head, 39), put_int(head, number);
      put_array(head, 0);
      head.push_back(char(0xf4));
      break;
    default:
      fprintf(stderr, "no answer for tag %d\n", int(tag));
      exit(1);
  }
  answer({c, 0}, head);
}
