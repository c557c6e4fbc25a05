/* restore.c - bprestore: turns itself into the process whose image it reads
 *
 *     bprestore IMAGE [CONTROL]      two descriptors
 *
 * Started in the place of the process: with its pid, user, limits, streams, and
 * on nodes with its arguments; the descriptors are in CM_RESTORE=IMAGE:CONTROL
 * then, so that nobody sees another name meanwhile. It
 * reads the image (doc/image.md), takes on its memory and the rest, says
 * "ready" on CONTROL, and goes on as the process when it is told to. Any
 * failure is a word there, or on stderr, and the end; nothing has run then.
 *
 * As a program with a file capability it may be run by anybody with any image:
 * an image can only ever touch what is not ours, and the capability is given up
 * before the process runs.
 */
#include "node/restore.h"

struct restore rs;
/* Grows downwards. Ours until the jump. */
LATER char restore_stack[65536];
LATER struct restore_later later;

#define EXIT_FAILED 125

void *memcpy(void *to, const void *from, unsigned long n);
void *memset(void *to, int c, unsigned long n);
void *memcpy(void *to, const void *from, unsigned long n)
{
    void *d = to;

    __asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(n) : : "memory");
    return to;
}
void *memset(void *to, int c, unsigned long n)
{
    void *d = to;

    __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
    return to;
}

unsigned long length(const char *s)
{
    unsigned long n = 0;

    while (s[n])
        n++;
    return n;
}

int same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

int begins(const char *s, const char *with)
{
    while (*with)
        if (*s++ != *with++)
            return 0;
    return 1;
}

static unsigned add_text(char *to, unsigned at, unsigned room, const char *s)
{
    while (s && *s && at + 1 < room)
        to[at++] = *s++;
    to[at] = 0;
    return at;
}

/* Of a ghost on the master whose process does not come after all. */
static void go_back(void)
{
    static char *argv[128], *envp[8];
    char *p = rs.back;

    if (!rs.back_bytes)
        return;
    while (*p++)
        ;
    for (unsigned i = 0; i < rs.back_argc; i++) {
        argv[i] = p;
        while (*p++)
            ;
    }
    argv[rs.back_argc] = 0;
    for (unsigned i = 0; i < rs.back_envc; i++) {
        envp[i] = p;
        while (*p++)
            ;
    }
    envp[rs.back_envc] = 0;
    sys3(NR_execve, rs.back, argv, envp);
}

static void keep_back(char **argv, char **envp)
{
    const char *prog = 0;
    unsigned n = 0;

    for (char **e = envp; *e; e++)
        if (begins(*e, "CM_BACK="))
            prog = *e + 8;
    if (!prog)
        return;
    n = add_text(rs.back, n, sizeof rs.back / 4, prog) + 1;
    for (; *argv && rs.back_argc < 127 && n + length(*argv) + 1 < sizeof rs.back / 2; argv++) {
        n = add_text(rs.back, n, sizeof rs.back, *argv) + 1;
        rs.back_argc++;
    }
    for (char **e = envp; *e && rs.back_envc < 7; e++)
        if (!begins(*e, "CM_BACK=") && !begins(*e, "CM_RESTORE=") &&
            n + length(*e) + 1 < sizeof rs.back) {
            n = add_text(rs.back, n, sizeof rs.back, *e) + 1;
            rs.back_envc++;
        }
    rs.back_bytes = n;
}

static void __attribute__((noreturn)) leave(void)
{
    if (rs.back_bytes) {
        sys1(NR_close, rs.image);
        sys1(NR_close, rs.control);
        go_back();
    }
    for (;;)
        sys1(NR_exit_group, EXIT_FAILED);
}

void fail(long code, const char *text, const char *what)
{
    struct image_word w;
    unsigned n = 0;

    memset(&w, 0, sizeof w);
    w.code = code > 0 && code < 4096 ? (uint32_t)code : EIO;
    if (what && *what) {
        n = add_text(w.text, n, sizeof w.text - 80, what);
        n = add_text(w.text, n, sizeof w.text, ": ");
    }
    n = add_text(w.text, n, sizeof w.text, text);
    if (rs.control >= 0) {
        sys3(NR_write, rs.control, &w, sizeof w);
    } else {
        sys3(NR_write, 2, "bprestore: ", 11);
        sys3(NR_write, 2, w.text, n);
        sys3(NR_write, 2, "\n", 1);
    }
    leave();
}

static unsigned long read_some(void *to, unsigned long n)
{
    long r;

    do
        r = sys3(NR_read, rs.image, to, n);
    while (r == -EINTR);
    if (r < 0)
        fail(-r, "the image cannot be read", 0);
    if (r == 0)
        fail(EBADMSG, "the image ends too early", 0);
    return (unsigned long)r;
}

/* What is small is read with what follows, beyond the image's end too. */
void read_all(void *to, unsigned long n)
{
    char *p = to;

    while (n) {
        unsigned long k = rs.ahead_len < n ? rs.ahead_len : n;
        if (k) {
            __builtin_memcpy(p, rs.ahead + rs.ahead_from, k);
            rs.ahead_from += k;
            rs.ahead_len -= k;
        } else if (n >= sizeof rs.ahead) {
            k = read_some(p, n);
        } else {
            rs.ahead_from = 0;
            rs.ahead_len = read_some(rs.ahead, sizeof rs.ahead);
        }
        p += k;
        n -= k;
    }
}

/* --- records --- */

static void record_head(void)
{
    read_all(&rs.rec, sizeof rs.rec);
}

/* After its bytes are where they belong: crc has gone over them. */
static void record_check(uint32_t crc)
{
    if (crc != rs.rec.crc)
        fail(EBADMSG, "the image is damaged: a checksum is wrong", 0);
    rs.chain = image_crc(rs.chain, &crc, sizeof crc);
    rs.records++;
}

static uint32_t head_crc(void)
{
    struct image_record r = rs.rec;

    r.crc = 0;
    return image_crc(0, &r, sizeof r);
}

static void record_into(void *to, unsigned long room, const char *what)
{
    if (rs.rec.len > room)
        fail(EBADMSG, "the image makes no sense: too long", what);
    read_all(to, rs.rec.len);
    record_check(image_crc(head_crc(), to, rs.rec.len));
}

/* A struct and the name that follows it. */
static void record_named(void *to, unsigned long size)
{
    if (rs.rec.len < size + 1 || rs.rec.len > size + sizeof rs.path)
        fail(EBADMSG, "the image makes no sense: a name's length", 0);
    unsigned long n = rs.rec.len - size;
    read_all(to, size);
    read_all(rs.path, n);
    uint32_t crc = image_crc(head_crc(), to, size);
    record_check(image_crc(crc, rs.path, n));
    if (rs.path[n - 1])
        fail(EBADMSG, "the image makes no sense: a name has no end", 0);
}

static void take_start(void)
{
    struct image_start s;

    read_all(&s, sizeof s);
    for (unsigned i = 0; i < sizeof s.magic; i++)
        if (s.magic[i] != IMAGE_MAGIC[i])
            fail(EINVAL, "this is no image of a process", 0);
    if (s.arch != IMAGE_X86_64)
        fail(EINVAL, "the image is of another architecture", 0);
    if (s.version != IMAGE_VERSION)
        fail(EINVAL, "the image is of another version of Clustermatic", 0);
    record_head();
    if (rs.rec.kind != IMAGE_PROCESS || rs.rec.len != sizeof rs.p)
        fail(EBADMSG, "the image makes no sense: it begins with no process", 0);
    record_into(&rs.p, sizeof rs.p, 0);
    rs.p.comm[sizeof rs.p.comm - 1] = 0;
    rs.p.cwd[sizeof rs.p.cwd - 1] = 0;
    rs.p.exe[sizeof rs.p.exe - 1] = 0;
    rs.p.machine.release[sizeof rs.p.machine.release - 1] = 0;
}

static void take_pages(void)
{
    uint32_t crc = head_crc();

    pages_take(&crc);
    record_check(crc);
}

static void take_records(void)
{
    static struct image_file file;

    for (;;) {
        record_head();
        switch (rs.rec.kind) {
        case IMAGE_MAP:
            record_named(&rs.map, sizeof rs.map);
            map_take();
            break;
        case IMAGE_PAGES: take_pages(); break;
        case IMAGE_XSTATE:
            record_into(later.xstate, sizeof later.xstate - 64, "registers");
            rs.xstate_bytes = (uint32_t)rs.rec.len;
            break;
        case IMAGE_FILE:
            record_named(&file, sizeof file);
            file_take(&file);
            break;
        case IMAGE_END:
            if (rs.rec.len || rs.rec.addr != rs.records || rs.rec.chain != rs.chain ||
                rs.maps != rs.p.maps)
                fail(EBADMSG, "the image is not whole", 0);
            record_check(head_crc());
            return;
        default: fail(EBADMSG, "the image makes no sense: an unknown record", 0);
        }
    }
}

/* --- the word --- */

static void take_streams(const unsigned char *control, uint32_t n)
{
    int fd[3];

    __builtin_memcpy(fd, control + 16, sizeof fd); /* past the cmsghdr */
    for (uint32_t i = 0; i < n && i < 3; i++) {
        sys2(NR_dup2, fd[i], i);
        if (fd[i] > 2)
            sys1(NR_close, fd[i]);
    }
}

static void wait_for_go(void)
{
    struct image_word ready;
    struct image_go g;
    unsigned char control[64];
    struct {
        void *base;
        unsigned long len;
    } iov = { &g, sizeof g };
    struct message m;

    memset(&ready, 0, sizeof ready);
    ready.npid = (uint32_t)sys0(NR_getpid);
    if (sys3(NR_write, rs.control, &ready, sizeof ready) != (long)sizeof ready)
        fail(EIO, "nobody waits for it any more", 0);
    for (int decided = 0;;) {
        memset(&m, 0, sizeof m);
        memset(control, 0, sizeof control);
        m.iov = (void *)&iov;
        m.iovlen = 1;
        m.control = control;
        m.controllen = sizeof control;
        long n;
        do
            n = sys3(NR_recvmsg, rs.control, &m, 0);
        while (n == -EINTR);
        int word = n == (long)sizeof g && (g.go == IMAGE_GO || g.go == IMAGE_GO_ALONE);
        if (!word && decided)
            return;
        if (!word) /* it was called off */
            leave();
        rs.rank = g.rank;
        if (g.fds)
            take_streams(control, g.fds);
        if (g.go == IMAGE_GO)
            return;
        decided = 1;
    }
}

/* --- start --- */

static int number(const char *s)
{
    int v = 0;

    if (!*s)
        return -1;
    for (; *s && *s != ':'; s++)
        if (*s < '0' || *s > '9' || v > 100000)
            return -1;
        else
            v = v * 10 + (*s - '0');
    return v;
}

static void say(int fd, const char *s) { sys3(NR_write, fd, s, length(s)); }

/* In the hole from here on; nothing else of us is there any more. */
static void __attribute__((noreturn, used)) build(void)
{
    own_away();
    take_records();
    settle();
    if (rs.control >= 0)
        wait_for_go();
    go();
}

/* Out of the way of the process's own 0-2: a ghost has none of these. */
static void lift(int *fd)
{
    if (*fd < 0 || *fd > 2)
        return;
    long other = sys3(NR_fcntl, *fd, 0 /* F_DUPFD */, 3);
    if (other < 0)
        fail(-other, "no descriptor is free", 0);
    sys1(NR_close, *fd);
    *fd = (int)other;
}

static void __attribute__((noreturn)) start(void)
{
    lift(&rs.image);
    lift(&rs.control);
    take_start();
    own_read();
    machine_check();
    unsigned long away = hide();
    __asm__ volatile("lea restore_stack+65536(%%rip), %%rax\n\t"
                     "add %0, %%rax\n\t"
                     "mov %%rax, %%rsp\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "lea build(%%rip), %%rax\n\t"
                     "add %0, %%rax\n\t"
                     "call *%%rax\n\t"
                     "hlt"
                     : : "b"(away) : "rax", "memory");
    __builtin_unreachable();
}

__attribute__((used)) void restore_main(long *sp);
void restore_main(long *sp)
{
    char **argv = (char **)(sp + 1);
    unsigned long all = ~0ul;

    sys4(NR_rt_sigprocmask, 2, &all, 0, 8);
    rs.control = rs.file = -1;
    for (char **e = argv + sp[0] + 1; *e; e++)
        if (begins(*e, "CM_RESTORE=")) {
            const char *v = *e + 11;
            rs.image = number(v);
            while (*v && *v != ':')
                v++;
            rs.control = *v ? number(v + 1) : -1;
            keep_back(argv, argv + sp[0] + 1);
            start();
        }
    if (sp[0] == 2 && same(argv[1], "--version")) {
        say(1, "bprestore (Clustermatic) " RESTORE_VERSION "\n");
        sys1(NR_exit_group, 0);
    }
    rs.image = sp[0] >= 2 ? number(argv[1]) : -1;
    if (sp[0] == 3)
        rs.control = number(argv[2]);
    if (sp[0] == 2 && same(argv[1], "--help")) {
        say(1, "Usage: bprestore IMAGE-FD [CONTROL-FD]; see bprestore(8)\n");
        sys1(NR_exit_group, 0);
    }
    if (rs.image < 0 || sp[0] > 3 || (sp[0] == 3 && rs.control < 0)) {
        say(2, "Usage: bprestore IMAGE-FD [CONTROL-FD]; see bprestore(8)\n");
        sys1(NR_exit_group, 2);
    }
    start();
}
NOLIBC_START(restore_main);
