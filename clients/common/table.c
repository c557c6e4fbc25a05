/* table.c - what the tables of the clients share: width, modes, times */
#include "clients/common/table.h"

#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

int table_width(void)
{
    struct winsize ws;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 0)
        return ws.ws_col;
    return 80;
}

void table_mode(char out[11], unsigned mode)
{
    memcpy(out, "----------", 11);
    if (mode & 0100)
        out[3] = 'x';
    if (mode & 0010)
        out[6] = 'x';
    if (mode & 0001)
        out[9] = 'x';
}

void table_time(char out[32], int64_t ms)
{
    struct tm tm;
    time_t t = (time_t)(ms / 1000);

    if (ms <= 0 || !localtime_r(&t, &tm) ||
        strftime(out, 32, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        memcpy(out, "-", 2);
}

/* Bytes of the UTF-8 character at s, 0 if there is none to be shown. */
static size_t utf8_length(const unsigned char *s, size_t len)
{
    size_t n;

    if (s[0] < 0x80)
        return s[0] >= 0x20 && s[0] != 0x7f ? 1 : 0;
    if (s[0] >= 0xc2 && s[0] < 0xe0)
        n = 2;
    else if (s[0] >= 0xe0 && s[0] < 0xf0)
        n = 3;
    else if (s[0] >= 0xf0 && s[0] < 0xf5)
        n = 4;
    else
        return 0;
    if (len < n)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    /* U+0080..U+009F are control characters too */
    return n == 2 && s[0] == 0xc2 && s[1] < 0xa0 ? 0 : n;
}

void table_text(FILE *f, const char *s, size_t len, size_t max)
{
    size_t columns = 0;

    while (len > 0 && (max == 0 || columns < max)) {
        size_t n = utf8_length((const unsigned char *)s, len);

        if (n == 0) {
            putc('?', f);
            n = 1;
        } else {
            fwrite(s, 1, n, f);
        }
        s += n;
        len -= n;
        columns++;
    }
}
