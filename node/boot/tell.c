/* tell.c - telling the boot server how far we are
 *
 * Nobody waits for it: a child says it, in order, while the boot goes on.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/klog.h>
#include <unistd.h>
#include "node/boot/boot.h"
#include "node/boot/fetch.h"

#define KLOG_READ_ALL 3
#define CONSOLE 3000 /* so much of the console's end is told with a failure */
#define LOG_ROOM (64 * 1024)

struct word {
    char stage[20];
    int64_t ms;
};

static char server[32], mac[BOOT_MAC], last[20] = "init";
static int to_child = -1;

void tell_where(const char *address, const char *card)
{
    snprintf(server, sizeof server, "%s", address);
    snprintf(mac, sizeof mac, "%s", card);
}

static void start_child(void)
{
    struct word w;
    int p[2];

    if (pipe2(p, O_CLOEXEC | O_DIRECT) < 0)
        return;
    if (fork() != 0) {
        close(p[0]);
        to_child = p[1];
        fcntl(to_child, F_SETFL, O_NONBLOCK | O_DIRECT);
        return;
    }
    close(p[1]);
    while (read(p[0], &w, sizeof w) == sizeof w)
        boot_fetch_stage(server, mac, w.stage, w.ms, NULL, NULL);
    _exit(0);
}

void tell(const char *stage)
{
    struct word w = { .ms = boot_ms() };

    snprintf(last, sizeof last, "%s", stage);
    snprintf(w.stage, sizeof w.stage, "%s", stage);
    if (*server && to_child < 0)
        start_child();
    if (*server && write(to_child, &w, sizeof w) < 0)
        boot_say("the boot server is not told of %s", stage);
}

void tell_end(void)
{
    cleanup_close(&to_child);
}

void tell_failure(const char *text)
{
    static char all[LOG_ROOM], said[CONSOLE + 1000];

    if (!*server)
        return;
    int n = klogctl(KLOG_READ_ALL, all, sizeof all - 1);
    all[n > 0 ? n : 0] = 0;
    const char *end = n > CONSOLE ? all + n - CONSOLE : all;
    snprintf(said, sizeof said, "%.900s\n%.*s", text, CONSOLE, end);
    boot_fetch_stage(server, mac, last, boot_ms(), "error", said);
}
