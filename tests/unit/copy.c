/* copy.c - the receiving side against senders that break the rules */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "copy/copy.h"
#include "tests/unit/tap.h"

static char dir[] = "/tmp/cm-unit-copy.XXXXXX";
static struct faults faults;
static sink_t *sink;
static struct err err;

static void fresh(char *const *only)
{
    struct sink_options o = { "dest", true, false, 022, only };

    sink_destroy(&sink);
    faults_free(&faults);
    faults_init(&faults);
    err.code = 0;
    sink = sink_create(&o, &faults, &err);
}

static int frame(enum copy_kind kind, const void *p, size_t len)
{
    struct frame f = { kind, p, len };

    err.code = 0;
    return sink_frame(sink, &f, &err);
}

static int entry(enum copy_kind kind, const char *what, const char *path, int64_t size,
                 const char *link, const char *tag)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_array(&m, 12);
    mp_str(&m, what);
    mp_bin(&m, path, strlen(path));
    mp_int(&m, 0644);
    for (int i = 0; i < 6; i++)
        mp_int(&m, 0);
    mp_int(&m, size);
    mp_bin(&m, link, strlen(link));
    mp_str(&m, tag);
    return frame(kind, m.b.data, m.b.size);
}

static int file(const char *path, const char *text, const char *hashed)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    char data[8 + 64] = { 0 };
    size_t n = strlen(text);

    memcpy(data + 8, text, n);
    EVP_Digest(hashed, strlen(hashed), hash, NULL, EVP_sha256(), NULL);
    return entry(COPY_ENTRY, "f", path, (int64_t)n, "", "") < 0 ||
                   frame(COPY_DATA, data, 8 + n) < 0 || frame(COPY_FEND, hash, COPY_HASH) < 0
               ? -1
               : 0;
}

static bool there(const char *path)
{
    return access(path, F_OK) == 0;
}

static void paths(void)
{
    static const char *const bad[] = { "../out", "/tmp/out", "a/../../out", "a//b", "", "a/.",
                                       "..", "a/..", "a/" };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fresh(NULL);
        ok(file(bad[i], "x", "x") < 0 && err.code == EPROTO, "the path \"%s\" is refused", bad[i]);
    }
    fresh(NULL);
    ok(file("good", "x", "x") == 0 && faults.n == 0 && there("dest/good"), "a good one is taken");
    ok(!there("out"), "nothing is outside");
}

static void links(void)
{
    struct stat st;

    fresh(NULL);
    ok(entry(COPY_ENTRY, "l", "way", 0, "..", "") == 0 && lstat("dest/way", &st) == 0 &&
           S_ISLNK(st.st_mode), "a link is made");
    ok(file("way/out", "x", "x") == 0 && faults.n == 1 && !there("out"),
       "but not followed by what comes after");
    ok(entry(COPY_ENTRY, "d", "way", 0, "", "") == 0 && faults.n == 2, "nor as a folder");
    ok(file("way/sub", "x", "x") == 0 && faults.n == 2 && !there("sub"),
       "what is in a folder that cannot be made is passed over without a word");
    ok(entry(COPY_DIREND, "d", "way", 0, "", "") == 0, "up to its end");
    ok(file("after", "x", "x") == 0 && there("dest/after"), "and the next is taken");
    ok(file("way", "x", "x") == 0 && lstat("dest/way", &st) == 0 && S_ISREG(st.st_mode) &&
           !there("x"), "a file takes the place of a link");
}

static void order(void)
{
    char asked[] = "asked", *only[] = { asked, NULL };
    char data[16] = { 0 };

    fresh(NULL);
    ok(frame(COPY_DATA, data, 9) < 0 && err.code == EPROTO, "data of no file are refused");
    ok(frame(COPY_FEND, data, 16) < 0 && err.code == EPROTO, "a short hash is refused");
    ok(frame(COPY_REPORT, data, 16) < 0 && err.code == EPROTO, "what is not due is refused");
    ok(entry(COPY_DIREND, "d", "x", 0, "", "") < 0, "the end of no folder is refused");
    ok(entry(COPY_ENTRY, "f", "x", -1, "", "") < 0, "a negative size is refused");
    ok(entry(COPY_ENTRY, "f", "x", 1, "", "../../../../../../../../../../x/y") < 0,
       "a tag that is none is refused");
    ok(entry(COPY_ENTRY, "x", "x", 1, "", "") < 0, "an unknown kind is refused");
    ok(frame(COPY_ENTRY, "\xdc\xff\xff", 3) < 0, "half an entry is refused");
    fresh(NULL);
    ok(entry(COPY_ENTRY, "f", "x", 1, "", "") == 0 &&
           entry(COPY_ENTRY, "f", "y", 1, "", "") < 0, "a file in a file is refused");
    fresh(NULL);
    ok(entry(COPY_ENTRY, "f", "x", 1, "", "") == 0 && frame(COPY_DATA, data, 10) < 0 &&
           err.code == EPROTO, "data past the end are refused");
    memset(data, 0xff, 8);
    fresh(NULL);
    ok(entry(COPY_ENTRY, "f", "x", 1, "", "") == 0 && frame(COPY_DATA, data, 9) < 0,
       "an offset past the end is refused");
    fresh(only);
    ok(file("asked", "x", "x") == 0, "what was asked for is taken");
    ok(file("asked2", "x", "x") < 0 && !there("dest/asked2"), "what was not is refused");
}

static void content(void)
{
    static const char tag[] = "0123456789abcdef0123456789abcdef";

    fresh(NULL);
    ok(file("wrong", "one", "two") == 0 && faults.n == 1 && !there("dest/wrong"),
       "a file with a wrong hash is a fault, and not there");
    fresh(NULL);
    ok(entry(COPY_ENTRY, "f", "half", 100, "", "") == 0 && frame(COPY_DATA, "\0\0\0\0\0\0\0\0ab", 10) == 0,
       "half a file");
    fresh(NULL);
    ok(!there("dest/half"), "is not there");
    ok(entry(COPY_ENTRY, "f", "big", 100, "", tag) == 0 && sink_have(sink) == 0 &&
           frame(COPY_DATA, "\0\0\0\0\0\0\0\0ab", 10) == 0, "half a file with a tag");
    fresh(NULL);
    ok(entry(COPY_ENTRY, "f", "big", 100, "", tag) == 0 && sink_have(sink) == 2,
       "goes on from there");
    ok(frame(COPY_FBAD, NULL, 0) == 0, "a file that the source lost");
    fresh(NULL);
    ok(entry(COPY_ENTRY, "f", "big", 100, "", tag) == 0 && sink_have(sink) == 0,
       "begins anew");
    sink_destroy(&sink);
    ok(symlink("/etc/passwd", "dest/.bpcp-0123456789abcdef0123456789abcdef") == 0,
       "a link where the tag's file would be");
    fresh(NULL);
    ok(entry(COPY_ENTRY, "f", "big", 100, "", tag) == 0 && sink_have(sink) == 0 && faults.n == 0,
       "is not written through");
}

int main(void)
{
    if (!mkdtemp(dir) || chdir(dir) < 0 || mkdir("dest", 0755) < 0)
        return 1;
    faults_init(&faults);
    paths();
    links();
    order();
    content();
    sink_destroy(&sink);
    faults_free(&faults);
    if (chdir("/") == 0) {
        char cmd[64];
        snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
        ok(system(cmd) == 0, "tidy");
    }
    return done_testing();
}
