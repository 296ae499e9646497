// What the compiled path is made of: CBOR, connections, frames, sealed records in LevelDB.
#pragma once
#include <arpa/inet.h>
#include <fcntl.h>
#include <leveldb/cache.h>
#include <leveldb/db.h>
#include <leveldb/filter_policy.h>
#include <leveldb/write_batch.h>
#include <netinet/tcp.h>
#include <nmmintrin.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

using std::string;
using leveldb::Slice;

static void die(const char* what) {
  perror(what);
  exit(1);
}

static double now_s() {
  timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static uint32_t crc32c(uint32_t crc, const char* p, size_t n) {
  uint64_t c = crc;
  for (; n >= 8; p += 8, n -= 8) {
    uint64_t word;
    memcpy(&word, p, 8);
    c = _mm_crc32_u64(c, word);
  }
  for (; n; p++, n--) c = _mm_crc32_u8(uint32_t(c), uint8_t(*p));
  return uint32_t(c);
}

static void le32(string& out, uint32_t v) { out.append(reinterpret_cast<char*>(&v), 4); }
static uint32_t rd32(const char* p) {
  uint32_t v;
  memcpy(&v, p, 4);
  return v;
}
static void be64(string& out, uint64_t v) {
  v = __builtin_bswap64(v);
  out.append(reinterpret_cast<char*>(&v), 8);
}
template <class T>
static void raw(string& out, T v) {
  out.append(reinterpret_cast<char*>(&v), sizeof v);
}
template <class T>
static T cut(Slice& from) {
  T v;
  if (from.size() < sizeof v) die("a frame ends early");
  memcpy(&v, from.data(), sizeof v);
  from.remove_prefix(sizeof v);
  return v;
}

// --- CBOR, as much as heads have ------------------------------------------------------------------------

static void put_head(string& out, int major, uint64_t n) {
  auto lead = [&](int low) { out.push_back(char(major << 5 | low)); };
  int bytes = n < 24 ? 0 : n < 256 ? 1 : n < 65536 ? 2 : n <= 0xffffffff ? 4 : 8;
  lead(bytes == 0 ? int(n) : bytes == 1 ? 24 : bytes == 2 ? 25 : bytes == 4 ? 26 : 27);
  for (int i = bytes - 1; i >= 0; i--) out.push_back(char(n >> (8 * i)));
}
static void put_int(string& out, uint64_t n) { put_head(out, 0, n); }
static void put_bytes(string& out, const Slice& s) {
  put_head(out, 2, s.size());
  out.append(s.data(), s.size());
}
static void put_text(string& out, const Slice& s) {
  put_head(out, 3, s.size());
  out.append(s.data(), s.size());
}
static void put_array(string& out, size_t n) { put_head(out, 4, n); }

struct Cbor {
  const uint8_t* p;
  const uint8_t* end;
  int major = 0, low = 0;
  uint64_t next() {
    if (p >= end) die("a head ends early");
    major = *p >> 5, low = *p++ & 31;
    int bytes = low < 24 ? 0 : 1 << (low - 24);
    if (low > 27 || p + bytes > end) die("a head is not CBOR that this reads");
    if (!bytes) return uint64_t(low);
    uint64_t n = 0;
    for (int i = 0; i < bytes; i++) n = n << 8 | *p++;
    return n;
  }
  uint64_t integer() { return next(); }
  Slice string_() {
    uint64_t n = next();
    Slice s(reinterpret_cast<const char*>(p), n);
    p += n;
    return s;
  }
  double number() {
    uint64_t n = next();
    if (major == 0) return double(n);
    if (low == 27) {
      double d;
      memcpy(&d, &n, 8);
      return d;
    }
    if (low == 26) {
      uint32_t v = uint32_t(n);
      float f;
      memcpy(&f, &v, 4);
      return f;
    }
    if (low == 25) {  // half
      int e = (n >> 10) & 31;
      double m = double(n & 1023);
      double v = e ? (1 + m / 1024) * std::pow(2.0, e - 15) : m / 1024 * std::pow(2.0, -14);
      return v;
    }
    return -1;  // null
  }
  void skip() {
    uint64_t n = next();
    if (major == 2 || major == 3) p += n;
    if (major == 4) while (n--) skip();
    if (major == 5) while (n--) skip(), skip();
  }
};

// --- connections ----------------------------------------------------------------------------------------

struct Connection {
  explicit Connection(int number) : fd(number) {}
  int fd;
  bool greeted = false, wants_out = false, gone = false, stirred = false;
  bool leads = false;     // a client that wants to know who leads
  int node = -1;          // the other node's number; -1: a client
  std::set<string> told;  // partitions of which it was told that
  string in, out;
  size_t out_at = 0;
};
static int epoll_fd;
static std::vector<Connection*> stirred;

// There is something to write: in this turn.
static void stir(Connection* c) {
  if (!c->stirred) c->stirred = true, stirred.push_back(c);
}

static void watch(Connection* c, bool out, int op) {
  epoll_event e{};
  e.events = EPOLLIN;
  if (out) e.events |= EPOLLOUT;
  e.data.ptr = c;
  epoll_ctl(epoll_fd, op, c->fd, &e);
}

static Connection* adopt(int fd) {
  int one = 1, big = 4 << 20;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &big, sizeof big);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  auto c = new Connection(fd);
  watch(c, false, EPOLL_CTL_ADD);
  return c;
}

static void flush(Connection* c) {
  while (!c->gone && c->out_at < c->out.size()) {
    ssize_t n = send(c->fd, c->out.data() + c->out_at, c->out.size() - c->out_at, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EAGAIN) break;
      c->gone = true;
      return;
    }
    c->out_at += size_t(n);
  }
  if (c->out_at == c->out.size()) c->out.clear(), c->out_at = 0;
  bool wants = !c->out.empty();
  if (wants != c->wants_out) watch(c, wants, EPOLL_CTL_MOD), c->wants_out = wants;
}

static void flush_all() {
  for (auto c : stirred) c->stirred = false, flush(c);
  stirred.clear();
}

// A frame; `before` stands before the head, where nodes talk to each other.
static void put_frame(string& out, const string& head, const std::vector<Slice>& blobs,
                      const string& before = {}) {
  size_t n = before.size() + 4 + head.size();
  for (auto& b : blobs) n += b.size();
  le32(out, uint32_t(n));
  size_t at = out.size();
  le32(out, 0);
  out += before;
  le32(out, uint32_t(head.size()));
  out += head;
  for (auto& b : blobs) out.append(b.data(), b.size());
  uint32_t crc = uint32_t(crc32_z(0, reinterpret_cast<const Bytef*>(out.data() + at + 4), n));
  memcpy(&out[at], &crc, 4);
}

// A frame of what is encoded already.
static void raw_frame(string& out, const Slice& a, const Slice& b) {
  le32(out, uint32_t(a.size() + b.size()));
  uLong crc = crc32_z(0, reinterpret_cast<const Bytef*>(a.data()), a.size());
  crc = crc32_z(crc, reinterpret_cast<const Bytef*>(b.data()), b.size());
  le32(out, uint32_t(crc));
  out.append(a.data(), a.size());
  out.append(b.data(), b.size());
}

// --- the store ------------------------------------------------------------------------------------------

static leveldb::DB* db;

static void open_store(const char* directory) {
  leveldb::Options o;
  o.create_if_missing = true;
  o.write_buffer_size = 16 << 20;
  o.max_file_size = 2 << 20;
  o.block_cache = leveldb::NewLRUCache(4 << 20);
  o.paranoid_checks = true;
  o.block_size = 4 << 10;
  o.compression = leveldb::kNoCompression;
  o.max_open_files = 500;
  o.filter_policy = leveldb::NewBloomFilterPolicy(16);
  if (!leveldb::DB::Open(o, directory, &db).ok()) die("open");
}

static void sync_write(leveldb::WriteBatch* batch) {
  leveldb::WriteOptions w;
  w.sync = true;
  if (!db->Write(w, batch).ok()) die("write");
}

// What one turn writes, here and on the followers: [letter][key length][key][value length][value] for each.
struct Entry {
  string ops;
  leveldb::WriteBatch batch;
  void put(const string& key, const Slice& head, const Slice& value) {
    string sealed;
    sealed.reserve(4 + head.size() + value.size());
    uint32_t crc = crc32c(crc32c(crc32c(0, key.data(), key.size()), head.data(), head.size()), value.data(),
                          value.size());
    le32(sealed, crc);
    sealed.append(head.data(), head.size());
    sealed.append(value.data(), value.size());
    batch.Put(key, sealed);
    ops.push_back('p');
    le32(ops, uint32_t(key.size()));
    ops += key;
    le32(ops, uint32_t(sealed.size()));
    ops += sealed;
  }
  void remove(const string& key) {
    batch.Delete(key);
    ops.push_back('d');
    le32(ops, uint32_t(key.size()));
    ops += key;
  }
};

static void take(Slice ops, leveldb::WriteBatch& batch) {
  while (!ops.empty()) {
    char letter = ops[0];
    uint32_t n = rd32(ops.data() + 1);
    Slice key(ops.data() + 5, n);
    ops.remove_prefix(5 + n);
    if (letter == 'd') {
      batch.Delete(key);
      continue;
    }
    n = rd32(ops.data());
    Slice value(ops.data() + 4, n);
    if (crc32c(crc32c(0, key.data(), key.size()), value.data() + 4, n - 4) != rd32(value.data())) die("crc");
    batch.Put(key, value);
    ops.remove_prefix(4 + n);
  }
}
