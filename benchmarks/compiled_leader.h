// What the compiled path does for the partitions that it leads: takes in, hands out, forgets what is acked.
#pragma once
#include "compiled_parts.h"

static const string LOG(20, 'L');
static const size_t KEPT = 8 << 20;  // bytes of waiting batches in memory
static size_t kept;
static int me, nodes;

// Who asks: a client, a node for one (`ask` is its number of that), or this node itself (no connection).
struct Origin {
  Connection* c;
  uint64_t ask;
};

struct Batch {
  uint64_t first, sent_at;
  uint32_t count, left;
  size_t size;
  std::shared_ptr<string> data;  // none: it is on disk
};
struct Wanted {  // a receive, as it travels between nodes
  uint64_t number, messages, bytes;
  double visibility, wait;
};
struct Waiting {
  Origin to;
  Wanted wanted;
  double until;
};
struct Partition {
  string id, queue;
  int leader;
  uint64_t next = 0, delivery = 0;
  double empty_until = 0;  // as seen from a front end
  uint64_t taken = 0;      // messages of the first ready batch that went out already
  std::deque<std::shared_ptr<Batch>> ready;
  std::map<uint64_t, std::shared_ptr<Batch>> alive;
  std::deque<Waiting> waiting;
  std::vector<Origin> watched_by;
};
struct Held {
  Partition* p;
  uint64_t first, count;
};

struct Answer {
  Origin to;
  string head;
};
struct Group {  // what one entry answers once it is committed
  std::vector<Answer> answers;
  std::vector<std::pair<Partition*, std::shared_ptr<Batch>>> batches;
};
static Entry* entry;
static Group group;
static std::vector<Partition*> led;

// The answer to something that this node asked itself, or another for it: `payload` is what a client is told.
static void answered(uint64_t ask, bool empty, const Slice& payload);

static void answer(const Origin& to, const string& head, const std::vector<Slice>& blobs = {},
                   bool empty = false) {
  if (to.c && !to.ask) {
    put_frame(to.c->out, head, blobs);
    return stir(to.c);
  }
  string before = "r";
  raw(before, to.ask), before.push_back(char(empty));
  if (to.c) {
    put_frame(to.c->out, head, blobs, before);
    return stir(to.c);
  }
  string payload;
  le32(payload, uint32_t(head.size()));
  payload += head;
  for (auto& b : blobs) payload.append(b.data(), b.size());
  answered(to.ask, empty, payload);
}

static string settled(uint64_t number) {
  string head;
  put_array(head, 3), put_int(head, 23), put_int(head, number), put_array(head, 0);
  return head;
}

static string nothing(const Partition* p, uint64_t number) {
  string head;
  put_array(head, 5), put_int(head, 19), put_int(head, number);
  put_text(head, p->queue), put_int(head, 30), put_array(head, 0);
  return head;
}

static string key_of(Partition* p, char letter, uint64_t n) {
  string key = "p" + p->id + letter + LOG;
  be64(key, n);
  return key;
}

// Messages of a batch of bodies of one length; what a client that asks for fewer gets.
static string some_of(const string& data, uint32_t from, uint32_t count) {
  uint32_t length = rd32(data.data() + 12);
  string out = data.substr(0, 16);
  memcpy(&out[4], &count, 4);
  out.append(data, 16 + size_t(from) * length, size_t(count) * length);
  return out;
}

static void hand_out(Partition* p, const Waiting& w) {
  string parts, note;
  std::vector<string> held;
  size_t many = 0, bytes = 0;
  uint64_t delivery = ++p->delivery, left = w.wanted.messages;
  while (left && !p->ready.empty()) {
    auto b = p->ready.front();
    if (many && bytes + b->size > w.wanted.bytes) break;
    string data;
    if (b->data) {
      data = *b->data;
    } else {
      string value;
      if (!db->Get(leveldb::ReadOptions(), key_of(p, 'b', b->first), &value).ok()) die("get");
      data = value.substr(4 + 24);
    }
    uint32_t rest = b->count - uint32_t(p->taken), count = uint32_t(std::min<uint64_t>(rest, left));
    if (count < b->count) data = some_of(data, uint32_t(p->taken), count);
    put_array(parts, 8);
    put_bytes(parts, p->id);
    put_int(parts, delivery);
    put_bytes(parts, LOG);
    put_int(parts, b->first + p->taken);
    put_int(parts, count);
    put_int(parts, 1);
    put_int(parts, b->sent_at);
    put_int(parts, data.size());
    be64(note, b->first + p->taken), be64(note, count);
    bytes += data.size();
    held.push_back(std::move(data));
    many++;
    left -= count;
    p->taken += count;
    if (p->taken == b->count) {
      if (b->data) kept -= b->size, b->data.reset();
      p->ready.pop_front();
      p->taken = 0;
    }
  }
  string head;
  put_array(head, 5);
  put_int(head, 19);
  put_int(head, w.wanted.number);
  put_text(head, p->queue);
  put_int(head, uint64_t(w.wanted.visibility));
  put_array(head, many);
  head += parts;
  answer(w.to, head, {held.begin(), held.end()});
  entry->put(key_of(p, 'n', delivery % 1024), Slice(), note);  // it goes with the next entry
}

static void deliver(Partition* p) {
  while (!p->waiting.empty() && !p->ready.empty()) {
    Waiting w = p->waiting.front();
    p->waiting.pop_front();
    if (!w.to.c || !w.to.c->gone) hand_out(p, w);
  }
  if (p->ready.empty() || p->watched_by.empty()) return;
  std::vector<Origin> watched;
  watched.swap(p->watched_by);
  for (auto& to : watched) answer(to, string());
}

static void take_in(Origin from, Partition* p, uint64_t number, Cbor& h, const char* blobs) {
  Slice producer = h.string_();
  uint64_t sequence = h.integer(), floor = h.integer();
  h.skip(), h.skip();
  uint64_t size = h.integer();
  auto b = std::make_shared<Batch>();
  b->first = p->next;
  b->count = b->left = rd32(blobs + 4);
  b->sent_at = uint64_t(now_s() * 1000);
  b->size = size;
  p->next += b->count;
  string head(24, '\0');
  head[0] = 1;
  memcpy(&head[8], &b->sent_at, 8);
  entry->put(key_of(p, 'b', b->first), head, Slice(blobs, size));
  if (producer.size()) {
    string key = "p" + p->id + "u" + producer.ToString(), sent;
    be64(sent, floor), be64(sent, sequence), be64(sent, b->first), be64(sent, b->count);
    entry->put(key, Slice(), sent);
  }
  string state;
  be64(state, p->next), be64(state, kept);
  entry->put("p" + p->id + "s", Slice(), state);
  if (kept + size <= KEPT) b->data = std::make_shared<string>(blobs, size), kept += size;
  Answer a{from, {}};
  put_array(a.head, 6);
  put_int(a.head, 17), put_int(a.head, number);
  put_array(a.head, 1);
  put_array(a.head, 3);
  put_bytes(a.head, LOG), put_int(a.head, b->first), put_int(a.head, b->count);
  put_int(a.head, 0), put_int(a.head, 0);
  a.head.push_back(char(0xf4));  // false
  group.answers.push_back(std::move(a));
  group.batches.emplace_back(p, b);
}

static void receive(Origin from, Partition* p, const Wanted& wanted) {
  if (wanted.wait <= 0 && p->ready.empty()) return answer(from, nothing(p, wanted.number), {}, true);
  p->waiting.push_back({from, wanted, now_s() + wanted.wait});
  deliver(p);
}

static void watch(Origin from, Partition* p) {
  p->watched_by.push_back(from);
  deliver(p);
}

static void settle(Origin from, uint64_t number, const std::vector<Held>& held) {
  std::vector<Partition*> touched;
  for (auto [p, first, count] : held) {
    auto at = p->alive.upper_bound(first);
    while (count && at != p->alive.begin()) {
      auto b = std::prev(at);
      if (first >= b->second->first + b->second->count) break;  // not known any more
      uint64_t here = std::min<uint64_t>(count, b->second->first + b->second->count - first);
      first += here, count -= here;
      b->second->left -= uint32_t(here);
      at = std::next(b);
      if (!b->second->left) {
        entry->remove(key_of(p, 'b', b->first));
        at = p->alive.erase(b);
      }
      if (at != p->alive.end()) ++at;
    }
    if (touched.empty() || touched.back() != p) touched.push_back(p);
  }
  for (Partition* p : touched) {
    string dead;
    be64(dead, p->alive.empty() ? p->next : p->alive.begin()->first);
    entry->put(key_of(p, 'd', 0), Slice(), dead);
  }
  group.answers.push_back({from, settled(number)});
}

// Whoever asked has given up: it is told so only by who keeps the receive.
static bool give_up(Partition* p, Connection* c, uint64_t ask, uint64_t number) {
  auto& by = p->watched_by;
  by.erase(std::remove_if(by.begin(), by.end(), [&](auto& o) { return o.c == c && o.ask == ask; }), by.end());
  for (auto w = p->waiting.begin(); w != p->waiting.end(); ++w)
    if (w->to.c == c && w->to.ask == ask && (ask || w->wanted.number == number)) {
      Waiting given_up = *w;
      p->waiting.erase(w);
      string head;
      put_array(head, 2), put_int(head, 6), put_int(head, given_up.wanted.number);
      answer(given_up.to, head);
      return true;
    }
  return false;
}

static void expire(double now) {
  for (auto p : led)
    for (auto w = p->waiting.begin(); w != p->waiting.end();) {
      Waiting over = *w;
      if (over.until > now && (!over.to.c || !over.to.c->gone)) {
        ++w;
        continue;
      }
      w = p->waiting.erase(w);
      if (!over.to.c || !over.to.c->gone) answer(over.to, nothing(p, over.wanted.number), {}, true);
    }
}
