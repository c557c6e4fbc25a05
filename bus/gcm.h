/* gcm.h - AES-128-GCM of whole records, several times as fast as OpenSSL 3.0's
 *
 * Done by Intel's library (libipsec-mb), where it is installed and the processor
 * has VAES; what is sealed is the same, byte by byte. Who has not got it uses
 * OpenSSL: both ends need not be alike.
 */
#ifndef BUS_GCM_H
#define BUS_GCM_H
#include <stdbool.h>
#include <stddef.h>

#define GCM_KEY 16
#define GCM_NONCE 12
#define GCM_TAG 16

typedef struct gcm gcm_t; /* a key */

/* NULL: not on this machine, or out of memory. */
gcm_t *gcm_open(const unsigned char key[GCM_KEY]);
void gcm_close(gcm_t **g);

/* n bytes at p and the byte after to out, with the tag behind: n + 1 + GCM_TAG. The head
 * is vouched for as well. */
void gcm_seal(const gcm_t *g, const unsigned char nonce[GCM_NONCE], const unsigned char *head,
              size_t head_len, const void *p, size_t n, unsigned char after, unsigned char *out);
/* The reverse, n as above. False: it is not what was sealed; out may hold anything. */
bool gcm_unseal(const gcm_t *g, const unsigned char nonce[GCM_NONCE], const unsigned char *head,
                size_t head_len, const unsigned char *p, size_t n, unsigned char *out,
                unsigned char *after);

#endif
