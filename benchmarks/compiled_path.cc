// The path of a message in a compiled language, to see what the interpreter costs: not a broker.
//
//     compiled_path DIRECTORY NUMBER NODES [PORT ...]      prints "ready PORT"
//
// NUMBER of NODES, and the ports of those before it.  Speaks dmq's protocol with dmq's own clients (sends,
// receives, acks, who leads), puts what came in one turn of its loop into one entry, writes that to both
// followers' links, then all that it leads and follows to its own LevelDB, synced, and answers what at least
// one follower has synced, too.  The partitions of a queue are led in turn, each by the next node; whatever
// is asked of another is passed on, and a receive of several partitions asks each, then watches all.
// Frames have checksums, records are sealed, a send is remembered under its producer, a delivery has a note,
// an ack a dead set: what a node writes for each.  What it has not: leases, elections, repair, time, groups,
// limits, members, a start from what is on disk, and, of five nodes, followers that differ by partition.
#include "compiled_front.h"

// --- what nodes say to each other -----------------------------------------------------------------------

static std::vector<uint64_t> to_confirm, confirmed;  // by node
static uint64_t own, entries;

static void on_word(Connection* c, Slice s) {
  char what = s[0];
  s.remove_prefix(1);
  auto partition = [&] {
    Partition* p = by_id.at(string(s.data(), 10));
    s.remove_prefix(10);
    return p;
  };
  switch (what) {
    case 'e':
      to_confirm[size_t(c->node)] = cut<uint64_t>(s);
      return take(s, entry->batch);
    case 'k':
      confirmed[size_t(c->node)] = cut<uint64_t>(s);
      return;
    case 'q': {
      uint64_t partitions = cut<uint64_t>(s);
      make_queue(s.ToString(), partitions);
      return;
    }
    case 'r': {
      uint64_t ask = cut<uint64_t>(s);
      bool empty = cut<char>(s);
      return answered(ask, empty, s);
    }
  }
  Origin from{c, cut<uint64_t>(s)};
  switch (what) {
    case 'S': {
      Partition* p = partition();
      uint32_t size = rd32(s.data());
      auto start = reinterpret_cast<const uint8_t*>(s.data() + 4);
      Cbor h{start, start + size};
      h.next(), h.next();
      uint64_t number = h.integer();
      h.skip();
      return take_in(from, p, number, h, s.data() + 4 + size);
    }
    case 'R': {
      Partition* p = partition();
      return receive(from, p, cut<Wanted>(s));
    }
    case 'W':
      return watch(from, partition());
    case 'C':
      give_up(partition(), c, from.ask, 0);
      return;
    case 'A': {
      std::vector<Held> held;
      while (!s.empty()) {
        Partition* p = partition();
        uint64_t first = cut<uint64_t>(s), count = cut<uint64_t>(s);
        held.push_back({p, first, count});
      }
      return settle(from, 0, held);
    }
    default:
      die("a word that no node says");
  }
}

// --- the loop -------------------------------------------------------------------------------------------

static std::deque<std::pair<uint64_t, Group>> under_way;

static std::vector<int> followers() {
  std::vector<int> found;
  for (int n = 1; n < std::min(nodes, 3); n++) found.push_back((me + n) % nodes);
  return found;
}

static void commit() {
  uint64_t second = nodes == 1 ? own : 0;
  for (int f : followers()) second = std::max(second, confirmed[size_t(f)]);
  while (!under_way.empty() && under_way.front().first <= std::min(own, second)) {
    Group done = std::move(under_way.front().second);
    under_way.pop_front();
    std::vector<Partition*> touched;
    for (auto& [p, b] : done.batches) {
      p->alive[b->first] = b;
      p->ready.push_back(b);
      if (touched.empty() || touched.back() != p) touched.push_back(p);
    }
    for (auto& a : done.answers) answer(a.to, a.head);
    for (auto p : touched) deliver(p);
  }
  flush_all();
}

static void greet(Connection* c, Slice said) {  // another node has dialled
  c->node = int(cut<uint64_t>(said));
  links[size_t(c->node)] = c;
  ports[size_t(c->node)] = int(cut<uint64_t>(said));
  char heard = 'h';
  if (send(c->fd, &heard, 1, 0) != 1) die("send");
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
  if (c->node < 0 && !c->greeted && c->in.size() >= 4) c->greeted = true, at = 4;
  while (c->in.size() - at >= 8) {
    uint32_t n = rd32(c->in.data() + at);
    if (c->in.size() - at - 8 < n) break;
    Slice payload(c->in.data() + at + 8, n);
    if (crc_of(payload) != rd32(payload.data() - 4)) die("crc");
    if (c->node >= 0) on_word(c, payload);
    else if (payload.size() == 17 && payload[0] == 'h') greet(c, Slice(payload.data() + 1, 16));
    else on_frame(c, payload);
    at += 8 + n;
  }
  c->in.erase(0, at);
}

static const double LINGER = 0.02;  // seconds
static double wrote;

static void end_turn() {
  bool followed = std::any_of(to_confirm.begin(), to_confirm.end(), [](uint64_t n) { return n; });
  bool leads = !entry->ops.empty();
  if (!followed && !leads) return;
  if (!followed && group.answers.empty() && now_s() - wrote < LINGER) return;  // nothing but notes: they wait
  wrote = now_s();
  if (leads) {
    string head = "e";
    raw(head, ++entries);
    for (int f : followers()) to_node(f, head, entry->ops);
    flush_all();
    under_way.emplace_back(entries, std::move(group));
    group = Group();
  }
  sync_write(&entry->batch);
  own = entries;
  delete entry;
  entry = new Entry;
  for (int n = 0; n < nodes; n++)
    if (uint64_t entry_of = std::exchange(to_confirm[size_t(n)], 0)) {
      string head = "k";
      raw(head, entry_of);
      to_node(n, head);
    }
  flush_all();
}

static void look_at_clock() {
  double now = now_s();
  expire(now);
  for (size_t i = 0; i < polls.size();) {
    auto poll = polls[i];
    if (!poll->over && !poll->watching.empty() && poll->until <= now) over(poll, false);
    if (poll->over) polls.erase(polls.begin() + long(i));
    else i++;
  }
  flush_all();
}

static int dial(int port, int own_port) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET, a.sin_port = htons(uint16_t(port)), a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, reinterpret_cast<sockaddr*>(&a), sizeof a)) die("connect");
  string out = "DMQ\1", head = "h";
  raw(head, uint64_t(me)), raw(head, uint64_t(own_port));
  raw_frame(out, head, Slice());
  char heard;
  if (send(fd, out.data(), out.size(), 0) != ssize_t(out.size()) || recv(fd, &heard, 1, 0) != 1) die("greet");
  return fd;
}

int main(int argc, char** argv) {
  if (argc < 4) return fprintf(stderr, "compiled_path DIRECTORY NUMBER NODES [PORT ...]\n"), 2;
  open_store(argv[1]);
  me = atoi(argv[2]), nodes = atoi(argv[3]);
  links.resize(size_t(nodes)), ports.resize(size_t(nodes));
  to_confirm.resize(size_t(nodes)), confirmed.resize(size_t(nodes));
  entry = new Entry;
  epoll_fd = epoll_create1(0);
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a{};
  socklen_t length = sizeof a;
  a.sin_family = AF_INET, a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(listener, reinterpret_cast<sockaddr*>(&a), sizeof a) || listen(listener, 64)) die("listen");
  getsockname(listener, reinterpret_cast<sockaddr*>(&a), &length);
  for (int n = 0; n < me; n++) {
    ports[size_t(n)] = atoi(argv[4 + n]);
    auto c = links[size_t(n)] = adopt(dial(ports[size_t(n)], ntohs(a.sin_port)));
    c->node = n;
  }
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
        adopt(accept(listener, nullptr, nullptr));
        continue;
      }
      if (events[i].events & EPOLLOUT) flush(c);
      if (events[i].events & ~EPOLLOUT) read_all(c);
      if (c->gone && c->fd >= 0) {
        part(c);
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, c->fd, nullptr), close(c->fd), c->fd = -1;
      }
    }
    commit();
    end_turn();
    commit();
    if (now_s() - looked > 0.1) looked = now_s(), look_at_clock();
  }
}
