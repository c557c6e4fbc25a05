/* nolibc_mem.h - what the compiler takes for granted; included once in a program */
#ifndef NODE_NOLIBC_MEM_H
#define NODE_NOLIBC_MEM_H

/* gcc may turn loops into calls of these. */
void *memcpy(void *to, const void *from, unsigned long n);
void *memset(void *to, int c, unsigned long n);
void *memcpy(void *to, const void *from, unsigned long n)
{
    for (unsigned long i = 0; i < n; i++)
        ((volatile char *)to)[i] = ((const char *)from)[i];
    return to;
}
void *memset(void *to, int c, unsigned long n)
{
    for (unsigned long i = 0; i < n; i++)
        ((volatile char *)to)[i] = (char)c;
    return to;
}

#endif
