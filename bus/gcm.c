/* gcm.c - AES-128-GCM of whole records by libipsec-mb
 *
 * The library is large and seldom needed, so it is opened when much is to be
 * sealed, and nothing of ours depends on it.
 */
#include "bus/gcm.h"
#if defined(__x86_64__) && __has_include(<intel-ipsec-mb.h>)
#include <dlfcn.h>
#include <intel-ipsec-mb.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY "libIPSec_MB.so.1"

struct gcm {
    struct gcm_key_data key; /* aligned as it asks */
};

static const IMB_MGR *lib; /* its table of functions, or NULL */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void find(void)
{
    void *so = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    IMB_MGR *(*make)(uint64_t) = NULL;
    void (*init)(IMB_MGR *, IMB_ARCH *) = NULL;
    void (*drop)(IMB_MGR *) = NULL;
    IMB_ARCH arch = IMB_ARCH_NONE;

    if (so) {
        *(void **)&make = dlsym(so, "alloc_mb_mgr");
        *(void **)&init = dlsym(so, "init_mb_mgr_auto");
        *(void **)&drop = dlsym(so, "free_mb_mgr");
    }
    IMB_MGR *m = make && init && drop ? make(0) : NULL;
    if (!m)
        return;
    init(m, &arch);
    if (arch >= IMB_ARCH_AVX2 && (m->features & IMB_FEATURE_VAES))
        lib = m;
    else
        drop(m);
}

gcm_t *gcm_open(const unsigned char key[GCM_KEY])
{
    gcm_t *g;

    pthread_once(&once, find);
    if (!lib || posix_memalign((void **)&g, 64, sizeof *g) != 0)
        return NULL;
    lib->gcm128_pre(key, &g->key);
    return g;
}

void gcm_close(gcm_t **g)
{
    if (*g)
        explicit_bzero(*g, sizeof **g);
    free(*g);
    *g = NULL;
}

void gcm_seal(const gcm_t *g, const unsigned char nonce[GCM_NONCE], const unsigned char *head,
              size_t head_len, const void *p, size_t n, unsigned char after, unsigned char *out)
{
    struct gcm_context_data c;

    lib->gcm128_init(&g->key, &c, nonce, head, head_len);
    lib->gcm128_enc_update(&g->key, &c, out, p, n);
    lib->gcm128_enc_update(&g->key, &c, out + n, &after, 1);
    lib->gcm128_enc_finalize(&g->key, &c, out + n + 1, GCM_TAG);
}

bool gcm_unseal(const gcm_t *g, const unsigned char nonce[GCM_NONCE], const unsigned char *head,
                size_t head_len, const unsigned char *p, size_t n, unsigned char *out,
                unsigned char *after)
{
    struct gcm_context_data c;
    unsigned char tag[GCM_TAG];

    lib->gcm128_init(&g->key, &c, nonce, head, head_len);
    lib->gcm128_dec_update(&g->key, &c, out, p, n);
    lib->gcm128_dec_update(&g->key, &c, after, p + n, 1);
    lib->gcm128_dec_finalize(&g->key, &c, tag, GCM_TAG);
    return CRYPTO_memcmp(tag, p + n + 1, GCM_TAG) == 0;
}

#else /* nothing to be had */

gcm_t *gcm_open(const unsigned char key[GCM_KEY])
{
    (void)key;
    return NULL;
}

void gcm_close(gcm_t **g) { *g = NULL; }

void gcm_seal(const gcm_t *g, const unsigned char nonce[GCM_NONCE], const unsigned char *head,
              size_t head_len, const void *p, size_t n, unsigned char after, unsigned char *out)
{
    (void)g, (void)nonce, (void)head, (void)head_len, (void)p, (void)n, (void)after, (void)out;
}

bool gcm_unseal(const gcm_t *g, const unsigned char nonce[GCM_NONCE], const unsigned char *head,
                size_t head_len, const unsigned char *p, size_t n, unsigned char *out,
                unsigned char *after)
{
    (void)g, (void)nonce, (void)head, (void)head_len, (void)p, (void)n, (void)out, (void)after;
    return false;
}
#endif
