/* tap.h - the Test Anything Protocol in a few lines: ok(), skip(), done_testing() */
#ifndef TESTS_TAP_H
#define TESTS_TAP_H
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int tap_count, tap_failed;

/* One claim a line, named as a sentence. Returns what was claimed. */
__attribute__((format(printf, 2, 3), unused))
static bool ok(bool good, const char *fmt, ...)
{
    va_list ap;

    printf("%sok %d - ", good ? "" : "not ", ++tap_count);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    fflush(stdout);
    tap_failed += !good;
    return good;
}

/* Compare two texts and show both when they differ; NULL equals only NULL. */
__attribute__((unused))
static bool is(const char *got, const char *want, const char *name)
{
    bool same = got && want ? strcmp(got, want) == 0 : got == want;

    if (!ok(same, "%s", name))
        printf("#   got: %s\n#  want: %s\n", got ? got : "(null)", want ? want : "(null)");
    return same;
}

/* Does text hold part? Shows the text when not. */
__attribute__((unused))
static bool says(const char *text, const char *part, const char *name)
{
    bool has = text && part && strstr(text, part) != NULL;

    if (!ok(has, "%s", name))
        printf("#   got: %s\n#  want: ...%s...\n", text ? text : "(null)", part);
    return has;
}

__attribute__((unused))
static void skip(const char *name, const char *why)
{
    printf("ok %d - %s # SKIP %s\n", ++tap_count, name, why);
    fflush(stdout);
}

/* The last line of main(): return done_testing(); */
__attribute__((unused))
static int done_testing(void)
{
    printf("1..%d\n", tap_count);
    return tap_failed ? 1 : 0;
}

#endif
