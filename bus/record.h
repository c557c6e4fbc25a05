/* record.h - TLS 1.3 records of application data (RFC 8446, 5), AES-128-GCM
 *
 * What bulk.c uses once OpenSSL has made the handshake: bytes are sealed from
 * where they are to where they leave from, and opened from where they came in
 * to where they are wanted, without a copy in between. A key that is "clear" leaves
 * them as they are, in records of the same shape.
 */
#ifndef BUS_RECORD_H
#define BUS_RECORD_H
#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "bus/gcm.h"

#define RECORD_MAX 16384 /* bytes of content */
#define RECORD_HEADER 5
#define RECORD_EXTRA (RECORD_HEADER + 1 + 16) /* header, type, tag */
#define RECORD_WIRE (RECORD_MAX + RECORD_EXTRA)
#define RECORD_SECRET 32

enum { RECORD_ALERT = 21, RECORD_HANDSHAKE = 22, RECORD_DATA = 23 };

/* A key seals this many records at most; then comes the next. AES-GCM bears
 * about three times as many (5.5). Only a test changes it. */
extern uint64_t record_key_lasts;
/* From this one on they are sealed and opened by gcm.h, where it works: what makes
 * it ready costs more than it saves on a few. */
extern uint64_t record_fast_from;

struct record_key { /* one direction of a connection; starts as zeros */
    EVP_CIPHER_CTX *ctx;
    gcm_t *fast; /* instead of it, if there is one */
    unsigned char secret[RECORD_SECRET], iv[12];
    uint64_t seq;
    bool seals, clear;
};

/* 0, or -1: OpenSSL cannot. Freed by record_key_free() in any case. */
int record_key_set(struct record_key *k, const unsigned char secret[RECORD_SECRET], bool seals);
void record_key_clear(struct record_key *k); /* none: clear text */
bool record_key_ready(const struct record_key *k);
int record_key_next(struct record_key *k); /* at a KeyUpdate, both ends */
void record_key_free(struct record_key *k);

/* One record of n <= RECORD_MAX bytes to out, which has room for n + RECORD_EXTRA:
 * its length, or 0. */
size_t record_seal(struct record_key *k, int type, const void *p, size_t n, unsigned char *out);

/* Length of the record at p with its header, of which RECORD_HEADER bytes at
 * least are there; 0: that is none. */
size_t record_length(const unsigned char *p);
/* Open a record of that length. out has room for len - RECORD_EXTRA. Its content's
 * length, or -1: not what the peer has sealed (out may hold anything). */
int record_open(struct record_key *k, const unsigned char *p, size_t len, unsigned char *out,
                int *type);

#endif
