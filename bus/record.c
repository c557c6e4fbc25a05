/* record.c - TLS 1.3 records of application data, AES-128-GCM */
#include "bus/record.h"
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <pthread.h>
#include <string.h>

#define TAG GCM_TAG

uint64_t record_key_lasts = 1u << 23;
uint64_t record_fast_from = 64; /* a megabyte */

/* Looked up once: OpenSSL takes its time over that. */
static EVP_KDF *kdf;
static EVP_CIPHER *cipher;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fetch(void)
{
    kdf = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_TLS1_3_KDF, NULL);
    cipher = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL);
}

/* HKDF-Expand-Label(secret, label, "", len) */
static int expand(const unsigned char *secret, const char *label, unsigned char *out, size_t len)
{
    int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    OSSL_PARAM p[] = {
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret, RECORD_SECRET),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, (void *)"tls13 ", 6),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, (void *)label, strlen(label)),
        OSSL_PARAM_construct_end()
    };
    EVP_KDF_CTX *c = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    int rc = c && EVP_KDF_derive(c, out, len, p) > 0 ? 0 : -1;

    EVP_KDF_CTX_free(c);
    return rc;
}

int record_key_set(struct record_key *k, const unsigned char secret[RECORD_SECRET], bool seals)
{
    unsigned char key[16];
    int rc = -1;

    pthread_once(&once, fetch);
    memcpy(k->secret, secret, RECORD_SECRET);
    k->seals = seals;
    k->seq = 0;
    gcm_close(&k->fast);
    if (!k->ctx)
        k->ctx = EVP_CIPHER_CTX_new();
    if (k->ctx && expand(k->secret, "key", key, sizeof key) == 0 &&
        expand(k->secret, "iv", k->iv, sizeof k->iv) == 0 &&
        cipher && EVP_CipherInit_ex(k->ctx, cipher, NULL, key, NULL, seals))
        rc = 0;
    explicit_bzero(key, sizeof key);
    return rc;
}

void record_key_clear(struct record_key *k) { k->clear = true; }

bool record_key_ready(const struct record_key *k) { return k->ctx || k->clear; }

int record_key_next(struct record_key *k)
{
    unsigned char next[RECORD_SECRET];
    int rc = expand(k->secret, "traffic upd", next, sizeof next);

    if (rc == 0)
        rc = record_key_set(k, next, k->seals);
    explicit_bzero(next, sizeof next);
    return rc;
}

void record_key_free(struct record_key *k)
{
    EVP_CIPHER_CTX_free(k->ctx);
    gcm_close(&k->fast);
    explicit_bzero(k, sizeof *k);
}

static void go_faster(struct record_key *k)
{
    unsigned char key[GCM_KEY];

    if (expand(k->secret, "key", key, sizeof key) == 0)
        k->fast = gcm_open(key);
    explicit_bzero(key, sizeof key);
}

static void next_nonce(struct record_key *k, unsigned char nonce[GCM_NONCE])
{
    memcpy(nonce, k->iv, GCM_NONCE);
    for (int i = 0; i < 8; i++)
        nonce[4 + i] ^= (unsigned char)(k->seq >> (56 - 8 * i));
    if (k->seq++ == record_fast_from)
        go_faster(k);
}

/* The record's nonce, and its header as what is vouched for as well. */
static bool begin(struct record_key *k, const unsigned char nonce[GCM_NONCE],
                  const unsigned char header[RECORD_HEADER])
{
    int n;

    return EVP_CipherInit_ex(k->ctx, NULL, NULL, NULL, nonce, -1) &&
           EVP_CipherUpdate(k->ctx, NULL, &n, header, RECORD_HEADER);
}

size_t record_seal(struct record_key *k, int type, const void *p, size_t n, unsigned char *out)
{
    size_t body = n + 1 + TAG;
    unsigned char inner = (unsigned char)type, *at = out + RECORD_HEADER, nonce[GCM_NONCE];
    int done;

    out[0] = RECORD_DATA;
    out[1] = out[2] = 3;
    out[3] = (unsigned char)(body >> 8);
    out[4] = (unsigned char)body;
    if (k->clear) {
        memcpy(at, p, n);
        at[n] = inner;
        memset(at + n + 1, 0, TAG);
        return RECORD_HEADER + body;
    }
    next_nonce(k, nonce);
    if (k->fast) {
        gcm_seal(k->fast, nonce, out, RECORD_HEADER, p, n, inner, at);
        return RECORD_HEADER + body;
    }
    if (!begin(k, nonce, out) || !EVP_CipherUpdate(k->ctx, at, &done, p, (int)n) ||
        !EVP_CipherUpdate(k->ctx, at + n, &done, &inner, 1) ||
        !EVP_CipherFinal_ex(k->ctx, at + n + 1, &done) ||
        !EVP_CIPHER_CTX_ctrl(k->ctx, EVP_CTRL_AEAD_GET_TAG, TAG, at + n + 1))
        return 0;
    return RECORD_HEADER + body;
}

size_t record_length(const unsigned char *p)
{
    size_t body = (size_t)p[3] << 8 | p[4];

    if (p[0] != RECORD_DATA || p[1] != 3 || p[2] != 3 || body < 1 + TAG ||
        body > RECORD_MAX + 1 + TAG)
        return 0;
    return RECORD_HEADER + body;
}

int record_open(struct record_key *k, const unsigned char *p, size_t len, unsigned char *out,
                int *type)
{
    size_t n = len - RECORD_EXTRA;
    const unsigned char *at = p + RECORD_HEADER;
    unsigned char inner, none[TAG], nonce[GCM_NONCE];
    int done;

    if (k->clear) {
        memcpy(out, at, n);
        *type = at[n];
        return (int)n;
    }
    next_nonce(k, nonce);
    if (k->fast) {
        if (!gcm_unseal(k->fast, nonce, p, RECORD_HEADER, at, n, out, &inner))
            return -1;
    } else if (!begin(k, nonce, p) || !EVP_CipherUpdate(k->ctx, out, &done, at, (int)n) ||
               !EVP_CipherUpdate(k->ctx, &inner, &done, at + n, 1) ||
               !EVP_CIPHER_CTX_ctrl(k->ctx, EVP_CTRL_AEAD_SET_TAG, TAG, (void *)(at + n + 1)) ||
               EVP_CipherFinal_ex(k->ctx, none, &done) <= 0) {
        return -1;
    }
    while (!inner && n) /* padding */
        inner = out[--n];
    *type = inner;
    return (int)n;
}
