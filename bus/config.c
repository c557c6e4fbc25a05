/* config.c - reads the configuration: the file, its lines, their words */
#include "bus/config.h"
#include "bus/config_parse.h"
#include "bus/nodespec.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (256L << 20)
#define LOCK_TRIES 50
#define LOCK_PAUSE_MS 20

void strlist_free(struct strlist *l)
{
    int keep = errno;

    for (size_t i = 0; i < l->n; i++)
        free(l->v[i]);
    free(l->v);
    *l = (struct strlist){ 0 };
    errno = keep;
}

int strlist_add(struct strlist *l, const char *text)
{
    if ((l->n & (l->n - 1)) == 0) { /* full at each power of two */
        char **v = realloc(l->v, (l->n ? l->n * 2 : 1) * sizeof *v);
        if (!v)
            return -1;
        l->v = v;
    }
    char *copy = strdup(text);
    if (!copy)
        return -1;
    l->v[l->n++] = copy;
    return 0;
}

int config_bad(struct parser *p, const char *fmt, ...)
{
    char text[sizeof p->err->text];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return err_set(p->err, EINVAL, "%s:%d: %s", p->path, p->line, text);
}

int config_warn(struct parser *p, const char *fmt, ...)
{
    CLEANUP(cleanup_free) char *text = NULL, *whole = NULL;
    va_list ap;

    if (!p->warnings)
        return 0;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0) {
        text = NULL;
        return config_nomem(p);
    }
    if (asprintf(&whole, "%s:%d: %s", p->path, p->line, text) < 0) {
        whole = NULL;
        return config_nomem(p);
    }
    return strlist_add(p->warnings, whole) < 0 ? config_nomem(p) : 0;
}

int config_nomem(struct parser *p)
{
    return err_set(p->err, ENOMEM, "%s: no memory to read it", p->path);
}

/* flock() knows no time limit: try for a second, a writer is never longer. */
static int lock_shared(int fd, const char *path, struct err *err)
{
    for (int i = 0; flock(fd, LOCK_SH | LOCK_NB) < 0; i++) {
        if (errno == EINTR)
            continue;
        if (errno != EWOULDBLOCK)
            return err_set(err, errno, "lock %s: %s", path, strerror(errno));
        if (i == LOCK_TRIES)
            return err_set(err, EBUSY, "%s: another program has it locked for writing; "
                           "end that program, or wait for it", path);
        poll(NULL, 0, LOCK_PAUSE_MS);
    }
    return 0;
}

/* The whole file as one text; *len without the closing NUL. */
static char *read_file(const char *path, size_t *len, struct err *err)
{
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    CLEANUP(cleanup_free) char *text = NULL;
    struct stat st;
    size_t have = 0;

    if (fd < 0) {
        err_set(err, errno, "open %s: %s", path, strerror(errno));
        return NULL;
    }
    if (fstat(fd, &st) < 0) {
        err_set(err, errno, "stat %s: %s", path, strerror(errno));
        return NULL;
    }
    if (!S_ISREG(st.st_mode)) {
        err_set(err, EINVAL, "%s is not a regular file", path);
        return NULL;
    }
    if (lock_shared(fd, path, err) < 0)
        return NULL;
    if (fstat(fd, &st) < 0 || st.st_size > FILE_MAX) { /* again: a writer has ended */
        err_set(err, EFBIG, "%s is larger than any configuration", path);
        return NULL;
    }
    size_t size = (size_t)st.st_size;
    text = malloc(size + 1);
    if (!text) {
        err_set(err, ENOMEM, "%s: no memory to read it", path);
        return NULL;
    }
    while (have < size) {
        ssize_t n = read(fd, text + have, size - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            err_set(err, errno, "read %s: %s", path, strerror(errno));
            return NULL;
        }
        if (n == 0)
            break;
        have += (size_t)n;
    }
    text[have] = '\0';
    *len = have;
    char *out = text;
    text = NULL;
    return out;
}

/* ---- words ---- */

struct words {
    char **v;
    size_t n, alloc;
};

static int word_add(struct parser *p, struct words *w, char *word)
{
    if (w->n == w->alloc) {
        size_t alloc = w->alloc ? w->alloc * 2 : 16;
        char **v = realloc(w->v, alloc * sizeof *v);
        if (!v)
            return config_nomem(p);
        w->v = v;
        w->alloc = alloc;
    }
    w->v[w->n++] = word;
    return 0;
}

/* Cut one line into words, in place: a word never grows. */
static int split(struct parser *p, char *line, struct words *w)
{
    char *in = line;

    w->n = 0;
    for (;;) {
        while (isspace((unsigned char)*in))
            in++;
        if (!*in || *in == '#')
            return 0;

        char *word = in, *out = in, quote = 0;
        for (; *in; in++) {
            if (*in == '\\' && in[1])
                *out++ = *++in;
            else if (quote && *in == quote)
                quote = 0;
            else if (quote)
                *out++ = *in;
            else if (*in == '\'' || *in == '"')
                quote = *in;
            else if (isspace((unsigned char)*in) || *in == '#')
                break;
            else
                *out++ = *in;
        }
        if (quote)
            return config_bad(p, "the quote %c is not closed on this line", quote);
        bool last = !*in || *in == '#';
        in += !last;
        *out = '\0';
        if (word_add(p, w, word) < 0)
            return -1;
        if (last)
            return 0;
    }
}

static int one_line(struct parser *p, int argc, char **argv)
{
    if (!p->each)
        return config_line(p, argc, argv);
    if (p->each(p->each_arg, argc, argv, p->err) == 0)
        return 0;
    return err_prefix(p->err, "%s:%d", p->path, p->line);
}

static int parse(struct parser *p, char *text, size_t len)
{
    CLEANUP(cleanup_free) char **v = NULL;
    struct words w = { 0 };
    char *end = text + len;

    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        text += 3; /* a byte order mark of some editors */
    while (text < end) {
        char *eol = memchr(text, '\n', (size_t)(end - text));

        if (!eol)
            eol = end;
        *eol = '\0';
        p->line++;
        if (strlen(text) != (size_t)(eol - text))
            return config_bad(p, "a zero byte: this is no text file");
        int rc = split(p, text, &w);
        v = w.v;
        if (rc < 0 || (w.n > 0 && one_line(p, (int)w.n, w.v) < 0))
            return -1;
        text = eol + 1;
    }
    return p->each ? 0 : config_finish(p);
}

/* ---- the whole ---- */

struct cm_config *config_load(const char *path, struct strlist *warnings, struct err *err)
{
    CLEANUP(config_free) struct cm_config *c = calloc(1, sizeof *c);
    CLEANUP(cleanup_free) char *text = NULL;
    struct err local; /* config_bad() measures by it, so it must be there */
    struct parser p = { .path = path, .c = c, .warnings = warnings,
                        .err = err ? err : &local };
    size_t len;

    if (!c || config_defaults(c) < 0 || !(c->file = strdup(path))) {
        config_nomem(&p);
        return NULL;
    }
    text = read_file(path, &len, p.err);
    if (!text)
        return NULL;
    int rc = parse(&p, text, len);
    for (size_t i = 0; i < p.nboot; i++) {
        free(p.boot[i].spec);
        free(p.boot[i].file);
    }
    free(p.boot);
    if (rc < 0)
        return NULL;
    struct cm_config *out = c;
    c = NULL;
    return out;
}

int config_each_line(const char *path, config_line_fn *fn, void *arg, struct err *err)
{
    struct err local;
    struct parser p = { .path = path, .err = err ? err : &local, .each = fn, .each_arg = arg };
    size_t len;
    CLEANUP(cleanup_free) char *text = read_file(path, &len, p.err);

    return text ? parse(&p, text, len) : -1;
}

void config_free(struct cm_config **cp)
{
    struct cm_config *c = *cp;
    int keep = errno;

    if (!c)
        return;
    for (size_t i = 0; i < c->nnodes; i++) {
        strlist_free(&c->nodes[i].addrs);
        strlist_free(&c->nodes[i].macs);
        free(c->nodes[i].bootfile);
        free(c->nodes[i].phase1);
    }
    for (size_t i = 0; i < c->ninterfaces; i++) {
        free(c->interfaces[i].name);
        free(c->interfaces[i].addr);
        free(c->interfaces[i].mask);
    }
    for (size_t i = 0; i < c->nmasters; i++)
        strlist_free(&c->masters[i]);
    free(c->nodes);
    free(c->interfaces);
    free(c->masters);
    free(c->file);
    free(c->bootfile);
    free(c->dhcp.first);
    free(c->dhcp.last);
    free(c->node_up.listen_path);
    free(c->node_up.worker);
    free(c->node_up.log_level);
    free(c->kernel_image);
    free(c->kernel_command_line);
    strlist_free(&c->libraries);
    strlist_free(&c->libraries_from_binary);
    free(c);
    *cp = NULL;
    errno = keep;
}

const struct cm_node *config_node(const struct cm_config *c, int number)
{
    return node_row(c->nodes, c->nnodes, sizeof *c->nodes, number);
}

static int hex(char c)
{
    return isdigit((unsigned char)c) ? c - '0'
           : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1;
}

bool mac_normalise(const char *text, char out[MAC_TEXT])
{
    bool plain = strlen(text) == 12 && strspn(text, "0123456789abcdefABCDEF") == 12;
    int byte[6];

    for (int i = 0; i < 6; i++) {
        if (hex(*text) < 0)
            return false;
        byte[i] = hex(*text++);
        if (hex(*text) >= 0)
            byte[i] = byte[i] * 16 + hex(*text++);
        if (i < 5 && !plain) {
            if (*text != ':' && *text != '.' && *text != '-')
                return false;
            text++;
        }
    }
    if (*text)
        return false;
    snprintf(out, MAC_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", byte[0], byte[1], byte[2],
             byte[3], byte[4], byte[5]);
    return true;
}
