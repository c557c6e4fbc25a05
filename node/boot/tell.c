/* tell.c - telling the boot server how far we are
 *
 * Nobody waits for it: a child says it, while the boot goes on.
 */
#include <stdio.h>
#include <string.h>
#include <sys/klog.h>
#include <unistd.h>
#include "node/boot/boot.h"
#include "node/boot/fetch.h"

#define KLOG_READ_ALL 3
#define CONSOLE 3000 /* so much of the console's end is told with a failure */
#define LOG_ROOM (64 * 1024)

static char server[32], mac[BOOT_MAC], last[20] = "init";

void tell_where(const char *address, const char *card)
{
    snprintf(server, sizeof server, "%s", address);
    snprintf(mac, sizeof mac, "%s", card);
}

void tell(const char *stage)
{
    snprintf(last, sizeof last, "%s", stage);
    if (!*server || fork() != 0)
        return;
    boot_fetch_stage(server, mac, stage, boot_ms(), NULL, NULL);
    _exit(0);
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
