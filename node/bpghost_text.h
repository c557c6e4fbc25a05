/* bpghost_text.h - texts, without a C library; part of bpghost.c and bpbegin.c */
#ifndef NODE_BPGHOST_TEXT_H
#define NODE_BPGHOST_TEXT_H

static inline char *add_text(char *to, const char *end, const char *s, unsigned long n)
{
    while (n-- && *s && to < end - 1)
        *to++ = *s++;
    *to = 0;
    return to;
}

static inline char *add_number(char *to, const char *end, uint64_t v)
{
    char digits[20];
    unsigned k = 0;

    do
        digits[k++] = (char)('0' + v % 10);
    while (v /= 10);
    while (k)
        to = add_text(to, end, &digits[--k], 1);
    return to;
}

/* Where our program is. An agent that is started puts a new one there, and then the
 * kernel says of ours that it is deleted. */
static inline void own_path(char *path, long room)
{
    static const char gone[] = " (deleted)";
    const long len = sizeof gone - 1;
    long n = sys3(NR_readlink, "/proc/self/exe", path, room), k = 0;

    if (n < 0)
        n = 0;
    while (n > len && k < len && path[n - len + k] == gone[k])
        k++;
    path[k == len ? n - len : n] = 0;
}

#endif
