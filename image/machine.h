/* machine.h - what a process may have taken for granted of its machine
 *
 * Libraries choose their code by what the processor has, and keep pointers into
 * the page of code that the kernel maps (vdso). Both must be as they were.
 */
#ifndef IMAGE_MACHINE_H
#define IMAGE_MACHINE_H
#include "image/image.h"

static inline void image_cpuid(uint32_t leaf, uint32_t sub, uint32_t out[4])
{
#if defined(__x86_64__)
    __asm__ volatile("cpuid"
                     : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
                     : "a"(leaf), "c"(sub));
#else
    (void)leaf;
    (void)sub;
    out[0] = out[1] = out[2] = out[3] = 0;
#endif
}

/* Words of feature bits, in this order. */
enum { CPU_1C, CPU_1D, CPU_7B, CPU_7C, CPU_7D, CPU_71A, CPU_D1A, CPU_E1C, CPU_E1D, CPU_WORDS };

/* In a virtual machine each question takes microseconds: those that are answered by
 * the answer to another one are not asked. */
static inline void image_cpu(struct image_machine *m)
{
    uint32_t r[4], most = 0;

    for (unsigned i = 0; i < sizeof m->cpuid / sizeof *m->cpuid; i++)
        m->cpuid[i] = 0;
    m->xcr0 = 0;
    image_cpuid(1, 0, r);
    m->cpuid[CPU_1C] = r[2];
    m->cpuid[CPU_1D] = r[3];
#if defined(__x86_64__)
    if (r[2] >> 27 & 1) { /* OSXSAVE */
        uint32_t lo, hi;
        __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
        m->xcr0 = (uint64_t)hi << 32 | lo;
        most = 0xd; /* it tells of what XGETBV is about */
    }
#endif
    if (!most) {
        image_cpuid(0, 0, r);
        most = r[0];
    }
    if (most >= 7) {
        image_cpuid(7, 0, r);
        uint32_t subs = r[0];
        m->cpuid[CPU_7B] = r[1];
        m->cpuid[CPU_7C] = r[2];
        m->cpuid[CPU_7D] = r[3];
        if (subs >= 1) {
            image_cpuid(7, 1, r);
            m->cpuid[CPU_71A] = r[0];
        }
    }
    if (most >= 0xd) {
        image_cpuid(0xd, 1, r);
        m->cpuid[CPU_D1A] = r[0];
    }
    image_cpuid(0x80000001u, 0, r); /* where it says that it has 64 bits */
    m->cpuid[CPU_E1C] = r[2];
    m->cpuid[CPU_E1D] = r[3];
}

struct image_feature {
    unsigned char word, bit;
    char name[10];
};

/* Those that people have heard of; any other that is missing counts too. */
static const struct image_feature image_features[] = {
    { CPU_1C, 0, "sse3" },     { CPU_1C, 9, "ssse3" },    { CPU_1C, 12, "fma" },
    { CPU_1C, 19, "sse4.1" },  { CPU_1C, 20, "sse4.2" },  { CPU_1C, 22, "movbe" },
    { CPU_1C, 23, "popcnt" },  { CPU_1C, 25, "aes" },     { CPU_1C, 28, "avx" },
    { CPU_1C, 29, "f16c" },    { CPU_7B, 3, "bmi1" },     { CPU_7B, 5, "avx2" },
    { CPU_7B, 8, "bmi2" },     { CPU_7B, 9, "erms" },     { CPU_7B, 11, "rtm" },
    { CPU_7B, 16, "avx512f" }, { CPU_7B, 17, "avx512dq" }, { CPU_7B, 30, "avx512bw" },
    { CPU_7B, 31, "avx512vl" }, { CPU_7D, 4, "fsrm" },    { CPU_7D, 24, "amx" },
    { CPU_E1C, 5, "lzcnt" },
};

/* Bits that say something about this very processor or its virtual machine, not
 * about what programs can do. */
static inline uint32_t image_cpu_ignored(unsigned word)
{
    switch (word) {
    case CPU_1C: return 1u << 31 | 1u << 27 | 1u << 21 | 1u << 3 | 1u << 15 | 1u << 17 |
                        1u << 24 | 1u << 2 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 7 | 1u << 8;
    case CPU_1D: return 1u << 28 | 1u << 22 | 1u << 21 | 1u << 18 | 1u << 9 | 1u << 7 | 1u << 14;
    case CPU_7B: return 1u << 1 | 1u << 12 | 1u << 15 | 1u << 25 | 1u << 7 | 1u << 20 | 1u << 10;
    case CPU_7C: return 1u << 3 | 1u << 4 | 1u << 2 | 1u << 16;
    case CPU_7D: return ~(1u << 2 | 1u << 3 | 1u << 4 | 1u << 8 | 1u << 22 | 1u << 23 |
                          1u << 24 | 1u << 25);
    case CPU_71A: return ~(1u << 4 | 1u << 5);
    case CPU_D1A: return ~7u;
    case CPU_E1C: return ~(1u << 5 | 1u << 6 | 1u << 8 | 1u << 11 | 1u << 16 | 1u << 21);
    case CPU_E1D: return ~(1u << 27);
    default: return ~0u;
    }
}

/* What `from` has and `here` has not: the name of it, or NULL. */
static inline const char *image_cpu_lacks(const struct image_machine *from,
                                          const struct image_machine *here)
{
    for (unsigned w = 0; w < CPU_WORDS; w++) {
        uint32_t gone = from->cpuid[w] & ~here->cpuid[w] & ~image_cpu_ignored(w);
        if (!gone)
            continue;
        for (unsigned i = 0; i < sizeof image_features / sizeof *image_features; i++)
            if (image_features[i].word == w && gone >> image_features[i].bit & 1)
                return image_features[i].name;
        return "a feature";
    }
    return from->xcr0 & ~here->xcr0 ? "registers" : NULL;
}

#endif
