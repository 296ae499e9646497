// The path of a message in a compiled language, to see what the interpreter costs: not a broker.
//
//     compiled_path DIRECTORY [FOLLOWER-PORT ...]      prints "ready PORT"
//
// With ports of two others that were started without any, it leads: it speaks dmq's protocol with dmq's own
// clients (sends, receives, acks), puts what came in one turn of its loop into one entry, writes that to both
// followers' links, then to its own LevelDB, synced, and answers what at least one of them has synced, too.
// Frames have checksums, records are sealed, a send is remembered under its producer, a delivery has a note,
// an ack a dead set: what a node writes for each.  What it has not: leases, elections, repair, time, groups,
// limits, members, more than one log, a start from what is on disk.
#include "compiled_parts.h"

// --- queues ---------------------------------------------------------------------------------------------

static const string LOG(20, 'L');
static const size_t KEPT = 8 << 20;  // bytes of waiting batches in memory
static size_t kept;

struct Batch {
  uint64_t first, sent_at;
  uint32_t count, left;
  size_t size;
  std::shared_ptr<string> data;  // none: it is on disk
};
struct Waiting {
  Connection* c;
  uint64_t number, messages, bytes;
  double visibility, until;
};
struct Queue {
  string name, partition;
  uint64_t next = 0, delivery = 0;
  uint64_t taken = 0;  // messages of the first ready batch that went out already
  std::deque<std::shared_ptr<Batch>> ready;
  std::map<uint64_t, std::shared_ptr<Batch>> alive;
  std::deque<Waiting> waiting;
};
static std::unordered_map<string, std::unique_ptr<Queue>> queues;
static std::unordered_map<string, Queue*> by_partition;

static Queue* queue_of(const Slice& name) {
  auto& q = queues[name.ToString()];
  if (!q) {
    q.reset(new Queue);
    q->name = name.ToString();
    be64(q->partition, queues.size());
    q->partition += string(2, '\0');
    by_partition[q->partition] = q.get();
  }
  return q.get();
}

static string key_of(Queue* q, char letter, uint64_t n) {
  string key = "p" + q->partition + letter + LOG;
  be64(key, n);
  return key;
}

struct Answer {
  Connection* c;
  string frame;
};
struct Group {  // what one entry answers once it is committed
  std::vector<Answer> answers;
  std::vector<std::pair<Queue*, std::shared_ptr<Batch>>> batches;
};
static Entry* entry;
static Group group;
static uint64_t entries;
static std::deque<std::pair<uint64_t, Group>> under_way;
static std::vector<Connection*> followers;

// One batch of bodies of one length, cut; what a client that asks for fewer gets.
static string cut(const string& data, uint32_t from, uint32_t count) {
  uint32_t length = rd32(data.data() + 12);
  string out = data.substr(0, 16);
  memcpy(&out[4], &count, 4);
  out.append(data, 16 + size_t(from) * length, size_t(count) * length);
  return out;
}

static void deliver(Queue* q) {
  while (!q->waiting.empty() && !q->ready.empty()) {
    Waiting w = q->waiting.front();
    q->waiting.pop_front();
    if (w.c->gone) continue;
    string parts;
    std::vector<string> held;
    size_t many = 0, bytes = 0;
    uint64_t delivery = ++q->delivery, left = w.messages;
    string note;
    while (left && !q->ready.empty()) {
      auto b = q->ready.front();
      if (many && bytes + b->size > w.bytes) break;
      string data;
      if (b->data) {
        data = *b->data;
      } else {
        string value;
        if (!db->Get(leveldb::ReadOptions(), key_of(q, 'b', b->first), &value).ok()) die("get");
        data = value.substr(4 + 24);
      }
      uint32_t rest = b->count - uint32_t(q->taken), count = uint32_t(std::min<uint64_t>(rest, left));
      if (count < b->count) data = cut(data, uint32_t(q->taken), count);
      put_array(parts, 8);
      put_bytes(parts, q->partition);
      put_int(parts, delivery);
      put_bytes(parts, LOG);
      put_int(parts, b->first + q->taken);
      put_int(parts, count);
      put_int(parts, 1);
      put_int(parts, b->sent_at);
      put_int(parts, data.size());
      be64(note, b->first + q->taken), be64(note, count);
      bytes += data.size();
      held.push_back(std::move(data));
      many++;
      left -= count;
      q->taken += count;
      if (q->taken == b->count) {
        if (b->data) kept -= b->size, b->data.reset();
        q->ready.pop_front();
        q->taken = 0;
      }
    }
    string head;
    put_array(head, 5);
    put_int(head, 19);
    put_int(head, w.number);
    put_text(head, q->name);
    put_int(head, uint64_t(w.visibility));
    put_array(head, many);
    head += parts;
    put_frame(w.c->out, head, {held.begin(), held.end()});
    flush(w.c);
    entry->put(key_of(q, 'n', delivery % 1024), Slice(), note);  // it goes with the next entry
  }
}

static void on_send(Connection* c, uint64_t number, Cbor& h, const char* blobs) {
  Queue* q = queue_of(h.string_());
  Slice producer = h.string_();
  uint64_t sequence = h.integer(), floor = h.integer();
  h.skip(), h.skip();
  uint64_t size = h.integer();
  auto b = std::make_shared<Batch>();
  b->first = q->next;
  b->count = b->left = rd32(blobs + 4);
  b->sent_at = uint64_t(now_s() * 1000);
  b->size = size;
  q->next += b->count;
  string head(24, '\0');
  head[0] = 1;
  memcpy(&head[8], &b->sent_at, 8);
  entry->put(key_of(q, 'b', b->first), head, Slice(blobs, size));
  if (producer.size()) {
    string key = "p" + q->partition + "u" + producer.ToString(), sent;
    be64(sent, floor), be64(sent, sequence), be64(sent, b->first), be64(sent, b->count);
    entry->put(key, Slice(), sent);
  }
  string state;
  be64(state, q->next), be64(state, kept);
  entry->put("p" + q->partition + "s", Slice(), state);
  if (kept + size <= KEPT) b->data = std::make_shared<string>(blobs, size), kept += size;
  string answer;
  put_array(answer, 6);
  put_int(answer, 17), put_int(answer, number);
  put_array(answer, 1);
  put_array(answer, 3);
  put_bytes(answer, LOG), put_int(answer, b->first), put_int(answer, b->count);
  put_int(answer, 0), put_int(answer, 0);
  answer.push_back(char(0xf4));  // false
  Answer a{c, {}};
  put_frame(a.frame, answer, {});
  group.answers.push_back(std::move(a));
  group.batches.emplace_back(q, b);
}

static void on_ack(Connection* c, uint64_t number, Cbor& h) {
  uint64_t many = h.integer();
  std::vector<Queue*> touched;
  while (many--) {
    h.next();
    Queue* q = by_partition.at(h.string_().ToString());
    h.skip(), h.skip();
    uint64_t first = h.integer(), count = h.integer();
    auto at = q->alive.upper_bound(first);
    while (count && at != q->alive.begin()) {
      auto b = std::prev(at);
      if (first >= b->second->first + b->second->count) break;  // not known any more
      uint64_t here = std::min<uint64_t>(count, b->second->first + b->second->count - first);
      first += here, count -= here;
      b->second->left -= uint32_t(here);
      at = std::next(b);
      if (!b->second->left) {
        entry->remove(key_of(q, 'b', b->first));
        at = q->alive.erase(b);
      }
      if (at != q->alive.end()) ++at;
    }
    if (touched.empty() || touched.back() != q) touched.push_back(q);
  }
  for (Queue* q : touched) {
    string dead;
    be64(dead, q->alive.empty() ? q->next : q->alive.begin()->first);
    entry->put(key_of(q, 'd', 0), Slice(), dead);
  }
  string head;
  put_array(head, 3);
  put_int(head, 23), put_int(head, number);
  put_array(head, 0);
  Answer a{c, {}};
  put_frame(a.frame, head, {});
  group.answers.push_back(std::move(a));
}

static void plain(Connection* c, const string& head) {
  put_frame(c->out, head, {});
  flush(c);
}

static void on_frame(Connection* c, const char* payload) {
  uint32_t size = rd32(payload);
  Cbor h{reinterpret_cast<const uint8_t*>(payload + 4), reinterpret_cast<const uint8_t*>(payload + 4 + size)};
  h.next();
  uint64_t tag = h.integer(), number = h.integer();
  string head;
  switch (tag) {
    case 1:  // Hello
      put_array(head, 9), put_int(head, 2), put_int(head, 0), put_int(head, 1);
      put_text(head, "compiled"), put_text(head, "n1"), put_array(head, 0);
      put_int(head, 16 << 20), put_int(head, 4 << 20), put_int(head, 0);
      return plain(c, head);
    case 3:  // Ping
      put_array(head, 2), put_int(head, 4), put_int(head, number);
      return plain(c, head);
    case 5:  // Cancel
      for (auto& q : queues)
        for (auto w = q.second->waiting.begin(); w != q.second->waiting.end(); ++w)
          if (w->c == c) {
            uint64_t given_up = w->number;
            if (given_up != number) continue;
            q.second->waiting.erase(w);
            put_array(head, 2), put_int(head, 6), put_int(head, number);
            return plain(c, head);
          }
      return;
    case 16:
      return on_send(c, number, h, payload + 4 + size);
    case 18: {  // Receive
      Queue* q = queue_of(h.string_());
      uint64_t messages = h.integer(), bytes = h.integer();
      double wait = h.number(), visibility = h.number();
      bytes = std::min<uint64_t>(bytes, 8 << 20);
      if (visibility < 0) visibility = 30;
      q->waiting.push_back({c, number, messages, bytes, visibility, now_s() + wait});
      return deliver(q);
    }
    case 20:
      return on_ack(c, number, h);
    case 32: {  // CreateQueue
      queue_of(h.string_());
      put_array(head, 3), put_int(head, 37), put_int(head, number);
      put_head(head, 5, 0);
      return plain(c, head);
    }
    case 38:  // ListQueues
      put_array(head, 4), put_int(head, 39), put_int(head, number);
      put_array(head, 0);
      head.push_back(char(0xf4));
      return plain(c, head);
    default:
      fprintf(stderr, "no answer for tag %d\n", int(tag));
      exit(1);
  }
}

// --- the loop -------------------------------------------------------------------------------------------

static leveldb::WriteBatch followed;
static uint64_t last_entry;
static uint64_t own, confirmed;

static void on_entry(const char* payload, size_t n) {
  memcpy(&last_entry, payload, 8);
  take(Slice(payload + 8, n - 8), followed);
}

static void commit() {
  while (!under_way.empty() && under_way.front().first <= std::min(own, confirmed)) {
    Group done = std::move(under_way.front().second);
    under_way.pop_front();
    std::vector<Queue*> touched;
    for (auto& [q, b] : done.batches) {
      q->alive[b->first] = b;
      q->ready.push_back(b);
      if (touched.empty() || touched.back() != q) touched.push_back(q);
    }
    std::vector<Connection*> answered;
    for (auto& a : done.answers) {
      a.c->out += a.frame;
      if (answered.empty() || answered.back() != a.c) answered.push_back(a.c);
    }
    for (auto c : answered) flush(c);
    for (auto q : touched) deliver(q);
  }
}

static void read_all(Connection* c) {
  static char buffer[1 << 20];
  for (int turns = 0; turns < 8; turns++) {
    ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
    if (n <= 0) {
      if (n == 0 || errno != EAGAIN) c->gone = true;
      break;
    }
    c->in.append(buffer, size_t(n));
    if (size_t(n) < sizeof buffer) break;
  }
  size_t at = 0;
  if (c->client && !c->greeted && c->in.size() >= 4) c->greeted = true, at = 4;
  while (c->in.size() - at >= 8) {
    uint32_t n = rd32(c->in.data() + at);
    if (c->in.size() - at - 8 < n) break;
    const char* payload = c->in.data() + at + 8;
    if (uint32_t(crc32_z(0, reinterpret_cast<const Bytef*>(payload), n)) != rd32(payload - 4)) die("crc");
    if (c->client && followers.empty()) on_entry(payload, n);
    else if (c->client) on_frame(c, payload);
    else {
      uint64_t e;
      memcpy(&e, payload, 8);
      confirmed = std::max(confirmed, e);
    }
    at += 8 + n;
  }
  c->in.erase(0, at);
}

static void raw_frame(string& out, const Slice& a, const Slice& b) {
  le32(out, uint32_t(a.size() + b.size()));
  uLong crc = crc32_z(0, reinterpret_cast<const Bytef*>(a.data()), a.size());
  crc = crc32_z(crc, reinterpret_cast<const Bytef*>(b.data()), b.size());
  le32(out, uint32_t(crc));
  out.append(a.data(), a.size());
  out.append(b.data(), b.size());
}

static void end_turn_of_follower(Connection* c) {
  if (!last_entry) return;
  sync_write(&followed);
  followed.Clear();
  raw_frame(c->out, Slice(reinterpret_cast<char*>(&last_entry), 8), Slice());
  flush(c);
  last_entry = 0;
}

static const double LINGER = 0.02;  // seconds
static double wrote;

static void end_turn_of_leader() {
  if (entry->ops.empty()) return;
  if (group.answers.empty() && now_s() - wrote < LINGER) return;  // nothing but notes: with what comes next
  wrote = now_s();
  uint64_t number = ++entries;
  string frame;
  raw_frame(frame, Slice(reinterpret_cast<char*>(&number), 8), entry->ops);
  for (auto f : followers) f->out += frame, flush(f);
  under_way.emplace_back(number, std::move(group));
  group = Group();
  sync_write(&entry->batch);
  own = number;
  delete entry;
  entry = new Entry;
}

static void expire() {
  double now = now_s();
  for (auto& q : queues) {
    auto& waiting = q.second->waiting;
    for (auto w = waiting.begin(); w != waiting.end();)
      if (w->c->gone || w->until <= now) {
        if (!w->c->gone) {
          string head;
          put_array(head, 5), put_int(head, 19), put_int(head, w->number);
          put_text(head, q.first), put_int(head, 30), put_array(head, 0);
          plain(w->c, head);
        }
        w = waiting.erase(w);
      } else ++w;
  }
}

static int dial(int port) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET, a.sin_port = htons(uint16_t(port)), a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, reinterpret_cast<sockaddr*>(&a), sizeof a)) die("connect");
  if (send(fd, "DMQ\1", 4, 0) != 4) die("send");
  return fd;
}

int main(int argc, char** argv) {
  if (argc < 2) return fprintf(stderr, "compiled_path DIRECTORY [FOLLOWER-PORT ...]\n"), 2;
  open_store(argv[1]);
  entry = new Entry;
  epoll_fd = epoll_create1(0);
  for (int i = 2; i < argc; i++) followers.push_back(adopt(dial(atoi(argv[i])), false));
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a{};
  socklen_t length = sizeof a;
  a.sin_family = AF_INET, a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(listener, reinterpret_cast<sockaddr*>(&a), sizeof a) || listen(listener, 64)) die("listen");
  getsockname(listener, reinterpret_cast<sockaddr*>(&a), &length);
  Connection door(listener);
  watch(&door, false, EPOLL_CTL_ADD);
  printf("ready %d\n", ntohs(a.sin_port));
  fflush(stdout);
  double looked = now_s();
  epoll_event events[64];
  for (;;) {
    int n = epoll_wait(epoll_fd, events, 64, 20);
    for (int i = 0; i < n; i++) {
      auto c = static_cast<Connection*>(events[i].data.ptr);
      if (c == &door) {
        adopt(accept(listener, nullptr, nullptr), true);
        continue;
      }
      if (events[i].events & EPOLLOUT) flush(c);
      if (events[i].events & ~EPOLLOUT) read_all(c);
      if (c->client && followers.empty()) end_turn_of_follower(c);
      if (c->gone && c->fd >= 0) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, c->fd, nullptr), close(c->fd), c->fd = -1;
    }
    if (!followers.empty()) {
      commit();
      end_turn_of_leader();
      commit();
      if (now_s() - looked > 0.1) looked = now_s(), expire();
    }
  }
}
