/* le.h - numbers in a row of bytes, least significant first */
#ifndef BUS_LE_H
#define BUS_LE_H
#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t le_get32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return le32toh(v);
}

static inline uint64_t le_get64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return le64toh(v);
}

/* These return the place behind it. */
static inline unsigned char *le_put32(void *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof v);
    return (unsigned char *)p + sizeof v;
}

static inline unsigned char *le_put64(void *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, sizeof v);
    return (unsigned char *)p + sizeof v;
}

#endif
