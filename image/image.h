/* image.h - a process as a row of bytes: what is written where
 *
 * doc/image.md describes the format, the structs below are it: little endian,
 * naturally aligned, written as they are. Who reads believes nothing: lengths,
 * addresses and checksums are compared before they are used.
 *
 * This header is for libbproc, for bpmove and for bprestore, which has no libc:
 * types and inline functions only.
 */
#ifndef IMAGE_IMAGE_H
#define IMAGE_IMAGE_H
#include <stddef.h>
#include <stdint.h>

#define IMAGE_MAGIC "CMIMAGE\n"
#define IMAGE_VERSION 2u
#define IMAGE_X86_64 62u /* as in ELF headers */
#define IMAGE_PAGE 4096u
#define IMAGE_CHUNK (1024u * 1024) /* of memory in one record, at most */
#define IMAGE_PATH 4096u           /* of a name, its NUL with it */
#define IMAGE_MAPS 65536u          /* mappings of one process */
#define IMAGE_TIMERS 32u           /* POSIX timers */
/* Where the restorer hides while it builds the rest: a gap of the process. */
#define IMAGE_HOLE (16u * 1024 * 1024)

struct image_start { /* the first bytes */
    char magic[8];
    uint32_t version, arch;
};

enum image_kind {
    IMAGE_PROCESS = 1, /* struct image_process; first, once */
    IMAGE_MAP = 2,     /* struct image_map and its path: one mapping */
    IMAGE_PAGES = 3,   /* memory of the mapping before it: at addr, whole pages */
    IMAGE_XSTATE = 4,  /* the processor's extended state, as XSAVE writes it */
    IMAGE_FILE = 5,    /* struct image_file and its path: a file to open again */
    IMAGE_END = 6,     /* nothing follows. addr: number of records before it */
};

struct image_record { /* in front of each */
    uint32_t kind;
    uint32_t crc; /* CRC-32C of this header, crc 0, and of the bytes that follow */
    uint64_t len; /* bytes that follow */
    uint64_t addr;
    /* IMAGE_END: CRC-32C over the crcs of all records before. IMAGE_PAGES: bytes of
     * memory that follow without a gap, in records to come; a hint. */
    uint64_t chain;
};

struct image_sigaction { /* the kernel's */
    uint64_t handler, flags, restorer, mask;
};

enum { IMAGE_MM_FIELDS = 11 };

/* A POSIX timer. The times are a struct itimerspec: what is left counts from the moment
 * at which the process goes on. */
struct image_timer {
    int32_t id, clock, notify, sig; /* notify: SIGEV_NONE, _SIGNAL, _THREAD_ID: its own */
    uint64_t value;                 /* that comes with the signal */
    int64_t interval[2], left[2];   /* s, ns; left 0: it is not set */
};

/* What the memory does not say. */
struct image_process {
    uint32_t pid;
    uint32_t flags; /* IMAGE_FULL ... */
    uint64_t hole;  /* address of IMAGE_HOLE bytes that no mapping touches */
    /* Where to go on, unless IMAGE_FULL: what a function call keeps. */
    uint64_t rbx, rbp, r12, r13, r14, r15, rsp, rip;
    uint32_t mxcsr;
    uint16_t fcw, pad0;
    uint64_t regs[27]; /* IMAGE_FULL: user_regs_struct */
    uint64_t fs_base, gs_base;
    uint64_t mm[IMAGE_MM_FIELDS]; /* struct prctl_mm_map up to env_end */
    uint64_t auxv[64];
    uint32_t auxv_bytes, umask;
    uint64_t rseq;
    uint32_t rseq_len, rseq_sig;
    uint64_t robust, robust_len, tid_address;
    uint64_t alt_sp, alt_size;
    uint32_t alt_flags, maps; /* how many mappings follow */
    uint64_t mask; /* blocked signals: IMAGE_FULL only, else the process knows */
    struct image_sigaction sigaction[64];
    uint64_t itimer[3][4]; /* interval s, us; value s, us */
    int32_t nice;
    uint32_t machine_flags; /* 0 */
    struct image_machine {
        uint32_t cpuid[12]; /* see image_machine.h: what the processor can do */
        uint64_t xcr0;
        uint32_t vdso_crc, vdso_bytes, vvar_bytes, clock_bytes;
        char release[64]; /* of the kernel: for the reason, not compared */
    } machine;
    char comm[16];
    char cwd[IMAGE_PATH];
    char exe[IMAGE_PATH];
    uint32_t timers, pad1;
    struct image_timer timer[IMAGE_TIMERS];
};
enum {
    IMAGE_FULL = 1,     /* all registers: it was stopped from outside */
    IMAGE_UNDUMPABLE = 2, /* PR_SET_DUMPABLE was 0 */
    IMAGE_NO_NEW_PRIVS = 4,
    IMAGE_KEEPS_FILES = 8, /* descriptors are those of who restores it, as they are */
};

enum image_map_kind {
    IMAGE_MAP_ANON = 1, /* zeros, and the pages that follow */
    IMAGE_MAP_FILE = 2, /* that file, and the pages that follow */
    IMAGE_MAP_VDSO = 3, /* the kernel's own, by name: [vdso], [vvar], ... */
};
enum { IMAGE_MAP_SHARED = 1, IMAGE_MAP_GROWS = 2, IMAGE_MAP_HEAP = 4 };

struct image_map {
    uint64_t start, end, offset;
    uint32_t kind, prot, flags;
    /* IMAGE_MAP_FILE: which content it must be */
    uint32_t head_crc;  /* CRC-32C of its first 4096 bytes */
    uint64_t file_size;
    uint32_t id_len; /* of the build-id; 0: it has none */
    unsigned char id[20];
    uint32_t path_len; /* of the name that follows, NUL included */
    uint32_t pad;
};

/* A descriptor, only in images of processes that were stopped from outside: those
 * of 0-2 that have none are closed. */
struct image_file {
    int32_t fd, flags; /* O_*, as it was opened */
    uint32_t kind;     /* IMAGE_FILE_*; a path follows, "" unless IMAGE_FILE_PATH */
    int32_t of;        /* IMAGE_FILE_STREAM, _SAME: of which; _PIPE: the other end, -1: follows */
    uint64_t offset, size;
    uint64_t inode;    /* together with the times: open for writing, it must be this */
    int64_t modified, changed;
    uint32_t modified_ns, changed_ns;
    uint32_t mode;     /* with the type */
    uint32_t crc;      /* CRC-32C of all of it: open for reading, it must have this */
    uint32_t path_len, pad;
};
enum {
    IMAGE_FILE_PATH = 0,
    IMAGE_FILE_STREAM = 1, /* 1 or 2, whatever that is there */
    IMAGE_FILE_SAME = 2,   /* a copy of a descriptor told before */
    IMAGE_FILE_PIPE = 3,   /* an end of an empty pipe, of size bytes, which it has to itself */
};

/* What bprestore says on its control descriptor, and is told there. */
struct image_word {
    uint32_t code;  /* 0: ready; else an errno */
    uint32_t npid;
    char text[184]; /* why, for a person */
};
enum {
    IMAGE_GO = 1,
    IMAGE_GO_ALONE = 2, /* it is decided; IMAGE_GO follows, or our end, which is the same */
};
struct image_go {
    uint32_t go;   /* IMAGE_GO... */
    int32_t rank;  /* what the copy finds as its number */
    uint32_t fds;  /* descriptors that come along and become 0, 1, ... */
    uint32_t pad;
};

/* --- CRC-32C --- */

static inline uint32_t image_crc_soft(uint32_t crc, const unsigned char *p, size_t n)
{
    while (n--) {
        crc ^= *p++;
        for (int i = 0; i < 8; i++)
            crc = crc >> 1 ^ (0x82f63b78u & -(crc & 1));
    }
    return crc;
}

#if defined(__x86_64__)
#define IMAGE_CRC_ROW 1360u /* bytes: three rows fit a page */
/* x to the power of 8 ROW - 33 and of 16 ROW - 33, as the polynomial leaves it: what
 * takes a sum over that many zeros. */
#define IMAGE_CRC_ONE 0x3f70cc6full
#define IMAGE_CRC_TWO 0x5aa1f3cfull
#define IMAGE_CRC_ASM __attribute__((target("sse4.2,pclmul"), no_sanitize("address", "undefined")))

/* SSE 4.2 has it, and waits three cycles for each sum. */
IMAGE_CRC_ASM static inline uint32_t image_crc_hard(uint32_t crc, const unsigned char *p, size_t n)
{
    uint64_t c = crc;

    for (; n && ((uintptr_t)p & 7); n--)
        c = __builtin_ia32_crc32qi((uint32_t)c, *p++);
    for (; n >= 8; n -= 8, p += 8)
        c = __builtin_ia32_crc32di(c, *(const uint64_t *)(const void *)p);
    for (; n; n--)
        c = __builtin_ia32_crc32qi((uint32_t)c, *p++);
    return (uint32_t)c;
}

IMAGE_CRC_ASM static inline uint64_t image_crc_shift(uint64_t crc, uint64_t by)
{
    typedef long long pair __attribute__((vector_size(16)));
    pair product = __builtin_ia32_pclmulqdq128((pair){ (long long)crc, 0 },
                                               (pair){ (long long)by, 0 }, 0);

    return __builtin_ia32_crc32di(0, (uint64_t)product[0]);
}

/* So three sums at a time, which are then put together. */
IMAGE_CRC_ASM static inline uint32_t image_crc_rows(uint32_t crc, const unsigned char *p, size_t n)
{
    uint64_t c = crc;

    for (; n >= 3 * IMAGE_CRC_ROW; n -= 3 * IMAGE_CRC_ROW, p += 3 * IMAGE_CRC_ROW) {
        const uint64_t *v = (const void *)p, *w = v + IMAGE_CRC_ROW / 8, *x = w + IMAGE_CRC_ROW / 8;
        uint64_t d = 0, e = 0;
        for (unsigned i = 0; i < IMAGE_CRC_ROW / 8; i++) {
            c = __builtin_ia32_crc32di(c, v[i]);
            d = __builtin_ia32_crc32di(d, w[i]);
            e = __builtin_ia32_crc32di(e, x[i]);
        }
        c = image_crc_shift(c, IMAGE_CRC_TWO) ^ image_crc_shift(d, IMAGE_CRC_ONE) ^ e;
    }
    return image_crc_hard((uint32_t)c, p, n);
}

/* Both that SSE 4.2 and a product without carry: every x86-64 of the last ten years. */
static inline int image_has_crc(void)
{
    uint32_t a = 1, b, c = 0, d;

    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return c >> 20 & c >> 1 & 1;
}

static inline uint32_t image_crc(uint32_t crc, const void *p, size_t n)
{
    static int hard = -1;

    if (hard < 0)
        hard = image_has_crc();
    crc = ~crc;
    crc = hard ? image_crc_rows(crc, p, n) : image_crc_soft(crc, p, n);
    return ~crc;
}
#else
static inline uint32_t image_crc(uint32_t crc, const void *p, size_t n)
{
    return ~image_crc_soft(~crc, p, n);
}
#endif

/* --- which file a mapping is of --- */

/* The build-id in the first bytes of an ELF file; its length, 0 none there. */
static inline uint32_t image_build_id(const unsigned char *p, size_t n, unsigned char id[20])
{
    uint64_t phoff, off, len;
    uint16_t phsize, phnum;
    uint32_t type, nl, dl, note;

#define IMAGE_AT(to, from) \
    __builtin_memcpy(&(to), p + (from), sizeof(to))
    if (n < 64 || p[0] != 0x7f || p[1] != 'E' || p[2] != 'L' || p[3] != 'F' || p[4] != 2)
        return 0;
    IMAGE_AT(phoff, 32);
    IMAGE_AT(phsize, 54);
    IMAGE_AT(phnum, 56);
    for (uint32_t i = 0; i < phnum && phsize >= 56; i++) {
        uint64_t at = phoff + (uint64_t)i * phsize;
        if (phoff > n || at + 56 > n)
            return 0;
        IMAGE_AT(type, at);
        if (type != 4) /* PT_NOTE */
            continue;
        IMAGE_AT(off, at + 8);
        IMAGE_AT(len, at + 32);
        if (off > n || len > n - off)
            continue;
        for (uint64_t k = off; k + 12 <= off + len;) {
            IMAGE_AT(nl, k);
            IMAGE_AT(dl, k + 4);
            IMAGE_AT(note, k + 8);
            uint64_t data = k + 12 + ((nl + 3ull) & ~3ull), next = data + ((dl + 3ull) & ~3ull);
            if (next > off + len)
                break;
            if (note == 3 && nl == 4 && p[k + 12] == 'G' && p[k + 13] == 'N' && dl <= 20) {
                for (uint32_t j = 0; j < dl; j++)
                    id[j] = p[data + j];
                return dl;
            }
            k = next;
        }
    }
#undef IMAGE_AT
    return 0;
}

#endif
