/* room.c - is there memory for an image?
 *
 * Asked before anything is sent. A kernel that has none left ends some process, and not
 * always the one that has just come: on the master that would be the ghost in whose place
 * it comes, and with it the process itself, which is fine where it is.
 */
#include "image/room.h"
#include <errno.h>
#include <stdio.h>

/* Bytes; -1: not known. Swap counts. */
static int64_t available(void)
{
    char line[128];
    long long kb, sum = 0;
    int found = 0;
    FILE *f = fopen("/proc/meminfo", "re");

    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %lld", &kb) == 1 || sscanf(line, "SwapFree: %lld", &kb) == 1) {
            sum += kb * 1024;
            found++;
        }
    if (f)
        fclose(f);
    return found == 2 ? (int64_t)sum : -1;
}

int image_room(const msgpack_object *image, size_t times, struct err *err)
{
    uint64_t bytes = 0;
    int64_t left = available();

    if (!image || !mp_get(image, "bytes") || mp_get_uint(image, "bytes", &bytes, NULL) < 0 ||
        left < 0 || !times || bytes <= (uint64_t)left / times)
        return 0;
    return err_set(err, ENOMEM, "it has %llu MB, and %lld MB of memory are available",
                   (unsigned long long)(bytes >> 20), (long long)(left >> 20));
}
