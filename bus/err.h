/* err.h - one error value, carried up the stack
 *
 * A function that can fail returns 0 or a pointer on success, -1 or NULL on
 * failure. On failure err->code holds an errno value (or one of the BE_*
 * numbers below) and err->text says what was being attempted, in words an
 * operator can act on. errno is set too, but a cleanup on the way out may
 * overwrite it: trust err->code. On success *err is not touched. err may be
 * NULL: the caller wants no text.
 */
#ifndef BUS_ERR_H
#define BUS_ERR_H

/* BProc's own error numbers (reference 3.1), beside errno's. */
enum {
    BE_INVALIDNODE = 300,
    BE_NODEDOWN = 301,
    BE_SAMENODE = 302,
    BE_SLAVEDIED = 303,
    BE_INVALIDPROC = 304,
};

struct err {
    int code;       /* errno value or BE_*; 0 = no error recorded */
    char text[320]; /* NUL-terminated, no trailing newline */
};

/* Record an error. Always returns -1, so "return err_set(...)" reads as one
 * thought. Calls nothing that can fail. */
int err_set(struct err *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Put "what: " in front of an existing text on the way up. Returns -1. */
int err_prefix(struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* strerror() that also knows the BE_* numbers ("Node is down"). */
const char *err_name(int code);

/* Run fn(&var) when var leaves scope, on every path. */
#define CLEANUP(fn) __attribute__((cleanup(fn)))
void cleanup_free(void *p);    /* for  CLEANUP(cleanup_free) char *s  */
void cleanup_close(int *fd);   /* for  CLEANUP(cleanup_close) int fd  */

#endif
