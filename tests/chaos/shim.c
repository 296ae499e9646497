/* A disk and a clock that a test can spoil, put under one process with LD_PRELOAD.

   For files below $CHAOS_DISK it writes to the journal $CHAOS_JOURNAL, one line each, what a power cut would
   leave: when a file is opened, when so many of its bytes are known to be on the disk (after fsync or fdatasync
   has returned, before the caller learns it), and every rename and unlink, of which the old file is kept in
   $CHAOS_ATTIC.  $CHAOS_CONTROL is a page of numbers that the test changes while the process runs:
     0 seconds to add to the wall clock, in nanoseconds
     1 how long each sync and each write takes longer, in microseconds
     2 bytes that may still be written, negative: no limit
     3 whether every sync fails with EIO */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static _Atomic long long *control;
static const char *disk, *attic;
static int journal = -1;
static atomic_int kept;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
  const char *page = getenv("CHAOS_CONTROL"), *lines = getenv("CHAOS_JOURNAL");
  disk = getenv("CHAOS_DISK");
  attic = getenv("CHAOS_ATTIC");
  if (page) {
    int fd = REAL(open)(page, O_RDWR | O_CLOEXEC);
    void *at = fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) control = at;
    if (fd >= 0) REAL(close)(fd);
  }
  if (lines && disk && attic)
    journal = REAL(open)(lines, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static void note(const char *format, ...) {
  char line[3 * PATH_MAX];
  va_list args;
  va_start(args, format);
  int size = vsnprintf(line, sizeof line, format, args);
  va_end(args);
  if (journal >= 0 && size > 0) (void)!REAL(write)(journal, line, size);
}

static int below(const char *path) {
  size_t size = disk ? strlen(disk) : 0;
  if (journal < 0 || !size || !path || strncmp(path, disk, size)) return 0;
  return path[size] == '/' || !path[size];
}

static int named(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, PATH_MAX - 1);
  if (size <= 0) return 0;
  path[size] = 0;
  return below(path);
}

static int keep(const char *path) {
  char copy[PATH_MAX];
  int number = getpid() * 1000 + atomic_fetch_add(&kept, 1);
  snprintf(copy, sizeof copy, "%s/%d", attic, number);
  return link(path, copy) ? 0 : number;
}

/* --- opening ------------------------------------------------------------------------------------------ */

static int opened(int fd, int flags) {
  char path[PATH_MAX];
  if (fd >= 0 && (flags & (O_WRONLY | O_RDWR)) && named(fd, path)) {
    struct stat now;
    if (!fstat(fd, &now) && S_ISREG(now.st_mode)) note("O\t%s\t%lld\n", path, (long long)now.st_size);
  }
  return fd;
}

#define OPEN(name)                                                  \
  int name(const char *path, int flags, ...) {                      \
    va_list args;                                                   \
    va_start(args, flags);                                          \
    mode_t mode = (flags & O_CREAT) ? va_arg(args, mode_t) : 0;     \
    va_end(args);                                                   \
    return opened(REAL(name)(path, flags, mode), flags);            \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                \
  int name(int at, const char *path, int flags, ...) {              \
    va_list args;                                                   \
    va_start(args, flags);                                          \
    mode_t mode = (flags & O_CREAT) ? va_arg(args, mode_t) : 0;     \
    va_end(args);                                                   \
    return opened(REAL(name)(at, path, flags, mode), flags);        \
  }
OPENAT(openat)
OPENAT(openat64)

/* --- syncing ------------------------------------------------------------------------------------------ */

static int synced(int fd, int (*sync)(int)) {
  char path[PATH_MAX];
  struct stat before;
  int known = named(fd, path) && !fstat(fd, &before);
  if (known && control) {
    if (control[3]) return errno = EIO, -1;
    if (control[1] > 0) usleep(control[1]);
  }
  int result = sync(fd);
  if (!result && known) note("S\t%s\t%lld\n", path, S_ISREG(before.st_mode) ? (long long)before.st_size : -1LL);
  return result;
}

int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

/* --- names -------------------------------------------------------------------------------------------- */

int rename(const char *old, const char *new) {
  if (!below(new)) return REAL(rename)(old, new);
  pthread_mutex_lock(&order);
  int was = keep(new);
  int result = REAL(rename)(old, new), why = errno;
  if (!result) note("R\t%s\t%s\t%d\n", old, new, was);
  pthread_mutex_unlock(&order);
  errno = why;
  return result;
}

int unlink(const char *path) {
  if (!below(path)) return REAL(unlink)(path);
  pthread_mutex_lock(&order);
  int was = keep(path);
  int result = REAL(unlink)(path), why = errno;
  if (!result) note("U\t%s\t%d\n", path, was);
  pthread_mutex_unlock(&order);
  errno = why;
  return result;
}

int unlinkat(int at, const char *path, int flags) {
  char full[2 * PATH_MAX];
  if (flags & AT_REMOVEDIR) return REAL(unlinkat)(at, path, flags);
  if (path[0] == '/' || at == AT_FDCWD) return unlink(path);
  if (!named(at, full)) return REAL(unlinkat)(at, path, flags);
  strcat(full, "/");
  strncat(full, path, PATH_MAX - 1);
  return unlink(full);
}

/* --- room --------------------------------------------------------------------------------------------- */

static int no_room(int fd, size_t size) {
  char path[PATH_MAX];
  if (!control || (control[2] < 0 && control[1] <= 0) || !named(fd, path)) return 0;
  if (control[1] > 0) usleep(control[1]);
  if (control[2] < 0) return 0;
  if (control[2] < (long long)size) return errno = ENOSPC, 1;
  control[2] -= size;
  return 0;
}

ssize_t write(int fd, const void *data, size_t size) { return no_room(fd, size) ? -1 : REAL(write)(fd, data, size); }

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
  return no_room(fd, size) ? -1 : REAL(pwrite)(fd, data, size, at);
}

#define STATVFS(name)                                                                              \
  int name(const char *path, struct name *result) {                                                \
    int done = ((int (*)(const char *, struct name *))dlsym(RTLD_NEXT, #name))(path, result);      \
    if (!done && control && control[2] >= 0 && below(path))                                        \
      result->f_bavail = result->f_bfree = control[2] / (result->f_frsize ? result->f_frsize : 1); \
    return done;                                                                                   \
  }
STATVFS(statvfs)
STATVFS(statvfs64)

/* --- the wall clock ----------------------------------------------------------------------------------- */

static void step(struct timespec *at) {
  long long all = at->tv_sec * 1000000000LL + at->tv_nsec + control[0];
  at->tv_sec = all / 1000000000LL;
  at->tv_nsec = all % 1000000000LL;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
  static __typeof__(&clock_gettime) real;
  if (!real) real = REAL(clock_gettime);
  int result = real(clock, at);
  if (!result && control && control[0] && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) step(at);
  return result;
}

int gettimeofday(struct timeval *at, void *zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}
