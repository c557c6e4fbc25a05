/* image_pipe.c - tests of images in pipes: memory that is lent is read as it was */
#include "image/pump.h"
#include "image/pipe.h"
#include "image/write.h"
#include "tests/unit/tap.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT_MS 20000
#define MIB ((size_t)1 << 20)
#define REGION (4 * MIB)
#define STREAM (5 * MIB)
#define NEAR (1 << 20)

static bool ready(int fd, int ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    return poll(&p, 1, ms) > 0;
}

/* Up to so much of it, or to its end: how much. */
static size_t read_up_to(int fd, unsigned char *p, size_t len)
{
    size_t got = 0;

    for (ssize_t k; got < len && ready(fd, LIMIT_MS) && (k = read(fd, p + got, len - got)) > 0;)
        got += (size_t)k;
    return got;
}

static void pipe_or_die(int p[2])
{
    if (image_pipe(p) < 0) {
        perror("pipe");
        exit(1);
    }
}

static void rooms(void)
{
    int p[2];

    pipe_or_die(p);
    ok(image_pipe_room(p[1]) == MIB, "a pipe for images holds 1 MiB");
    ok(image_pipe_room(1000) == 0, "what is none holds nothing");
    close(p[0]);
    close(p[1]);
}

/* --- a process that writes itself --- */

/* Its memory is another as soon as it has written its image, as that of any that goes on. */
static void __attribute__((noreturn)) writer(int out, int word, unsigned char *region)
{
    struct image_writer w = { .self = true, .text_room = 4 * MIB };

    for (size_t i = 0; i < REGION; i++) /* of nobody else's: no copy is made when it changes */
        region[i] = (unsigned char)(i % 251);
    w.out = out;
    w.lend = image_pipe_room(out);
    if (!image_scratch_map(&w) || image_open(&w, "/proc/self") < 0)
        _exit(1);
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    w.moving[0] = (struct image_span){ here - NEAR, here + NEAR };
    w.moving[1] = (struct image_span){ 0x7fff8000, 0x10007fff8000 }; /* a sanitizer's */
    if (image_begin(&w) < 0 || image_memory(&w) < 0 || image_end(&w) < 0)
        _exit(2);
    memset(region, 0xff, REGION);
    _exit(write(word, "w", 1) == 1 ? 0 : 3);
}

/* Reads as little as is needed for the writer to come to its end. */
static size_t read_slowly(int fd, int word, unsigned char *p, size_t len)
{
    size_t got = 0;

    while (got < len && !ready(word, 20)) {
        ssize_t k = ready(fd, LIMIT_MS) ? read(fd, p + got, 64 * 1024) : -1;
        if (k <= 0)
            break;
        got += (size_t)k;
    }
    return got;
}

struct found {
    bool whole;  /* every record is what its checksum says, and the last one is there */
    size_t same; /* bytes of the region that are what they were */
};

static struct found look(const unsigned char *p, size_t len, const unsigned char *region)
{
    struct found f = { 0 };
    struct image_record r;

    for (size_t at = sizeof(struct image_start); at + sizeof r <= len; at += r.len) {
        memcpy(&r, p + at, sizeof r);
        at += sizeof r;
        uint32_t want = r.crc;
        r.crc = 0;
        if (r.len > len - at ||
            image_crc(image_crc(0, &r, sizeof r), p + at, (size_t)r.len) != want)
            return f;
        if (r.kind == IMAGE_PAGES)
            for (size_t i = 0; i < r.len; i++) {
                uint64_t to = r.addr + i - (uintptr_t)region;
                f.same += to < REGION && p[at + i] == (unsigned char)(to % 251);
            }
        f.whole = r.kind == IMAGE_END && at + r.len == len;
    }
    return f;
}

static void lends_what_stays(void)
{
    size_t room = 256 * MIB;
    int p[2], word[2], status = -1;
    /* Just below the stack: of all memory it is written last. */
    void *at = (void *)(((uintptr_t)&status - 64 * MIB) & ~(uintptr_t)(MIB - 1));
    unsigned char *region = mmap(at, REGION, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    unsigned char *got = mmap(NULL, room, PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region == MAP_FAILED || got == MAP_FAILED)
        abort();
    pipe_or_die(p);
    pipe_or_die(word);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        munmap(got, room);
        writer(p[1], word[1], region);
    }
    close(p[1]);
    size_t n = read_slowly(p[0], word[0], got, room);
    ok(ready(word[0], LIMIT_MS), "a process has written itself, and changes, while the last is "
       "still in the pipe");
    size_t behind = read_up_to(p[0], got + n, room - n);
    ok(behind > 0 && behind <= MIB, "which is no more than that holds (%zu bytes)", behind);
    struct found f = look(got, n + behind, region);
    ok(f.whole, "all its records are what they were when their checksums were made");
    ok(f.same == REGION, "its memory too: %zu bytes of %zu", f.same, REGION);
    ok(waitpid(pid, &status, 0) == pid && status == 0, "it has ended well");
    close(p[0]);
    close(word[0]);
    close(word[1]);
    munmap(region, REGION);
    munmap(got, room);
}

static void reader_gone(void)
{
    struct image_writer w = { .text_room = 4096 };
    sigset_t all, old, pending;
    int p[2];

    pipe_or_die(p);
    close(p[0]);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old);
    w.out = p[1];
    bool failed = image_scratch_map(&w) && (image_begin(&w) < 0 || image_end(&w) < 0);
    sigpending(&pending);
    sigprocmask(SIG_SETMASK, &old, NULL);
    ok(failed && w.code == EPIPE, "a reader that has gone: EPIPE");
    ok(!sigismember(&pending, SIGPIPE), "and no signal");
    image_scratch_unmap(&w);
    close(p[1]);
}

/* --- pumps --- */

static unsigned char byte_of(size_t i, unsigned seed)
{
    return (unsigned char)(i * 7 + seed + (i >> 12));
}

struct flow {
    pthread_t sender; /* no process: after a fork, memory that is written to is other memory */
    int to, from;     /* the sender's socket; where it comes out */
    unsigned seed;
    bool sent;
    struct bulk_ticket ticket;
};

static void *sender(void *arg)
{
    struct flow *f = arg;
    unsigned char *p = malloc(STREAM);
    bulk_t *b = bulk_client(f->to, &f->ticket, LIMIT_MS, NULL);
    char c;

    for (size_t i = 0; p && i < STREAM; i++)
        p[i] = byte_of(i, f->seed);
    f->sent = p && b && bulk_write(b, p, STREAM, LIMIT_MS, NULL) == 0 &&
              bulk_finish(b, LIMIT_MS, NULL) == 0;
    if (b)
        bulk_read(b, &c, 1, LIMIT_MS, NULL); /* until the pump has done with it */
    bulk_close(&b);
    free(p);
    return NULL;
}

static void flow(struct flow *f, unsigned seed)
{
    struct pump_plan plan = { .in = -1 };
    int s[2], p[2];

    pipe_or_die(p);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, s) < 0 || !(plan.out = malloc(sizeof *plan.out)))
        abort();
    *f = (struct flow){ .from = p[0], .to = s[0], .seed = seed };
    bulk_ticket_make(&f->ticket);
    if (pthread_create(&f->sender, NULL, sender, f) != 0)
        abort();
    plan.conn = s[1];
    plan.ticket = f->ticket;
    plan.out[0] = p[1];
    plan.outs = 1;
    ok(pump_start(&plan, NULL) == 0, "a pump carries a connection's bytes to a pipe");
}

/* How many bytes from `at` on are right. */
static size_t right(struct flow *f, size_t at, size_t len, unsigned seed)
{
    unsigned char *p = malloc(len);
    size_t got = p ? read_up_to(f->from, p, len) : 0, n = 0;

    for (size_t i = 0; i < got; i++)
        n += p[i] == byte_of(at + i, seed);
    free(p);
    return n;
}

/* By that thread that had the first, or, had it not come to wait yet, by the one after. */
static void carries_the_next(unsigned seed)
{
    struct flow f;
    char c;

    flow(&f, seed);
    ok(right(&f, 0, STREAM, seed) == STREAM, "and carries the next, %u", seed);
    ok(pthread_join(f.sender, NULL) == 0 && f.sent, "whose sender ends");
    ok(read(f.from, &c, 1) == 0, "and whose pipe ends");
    close(f.from);
}

static void pump_keeps(void)
{
    struct flow f;
    char c;

    flow(&f, 1);
    ok(right(&f, 0, STREAM - MIB, 1) == STREAM - MIB, "all but the last MiB is read");
    ok(pthread_join(f.sender, NULL) == 0 && f.sent, "the pump has done with it");
    for (unsigned seed = 2; seed < 6; seed++)
        carries_the_next(seed);
    ok(right(&f, STREAM - MIB, MIB, 1) == MIB, "these leave alone what the first pipe still has");
    ok(read(f.from, &c, 1) == 0, "which ends then");
    close(f.from);
}

int main(void)
{
    rooms();
    reader_gone();
    lends_what_stays();
    pump_keeps();
    return done_testing();
}
