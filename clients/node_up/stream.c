/* stream.c - steps as a stream: length, msgpack, bytes (node/nodeset) */
#include "clients/node_up/node_up.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

int stream_put(FILE *out, const mp_buf *step, struct err *err)
{
    size_t n = step->b.size;
    const unsigned char h[4] = { (unsigned char)(n >> 24), (unsigned char)(n >> 16),
                                 (unsigned char)(n >> 8), (unsigned char)n };

    if (fwrite(h, sizeof h, 1, out) != 1 || fwrite(step->b.data, n, 1, out) != 1)
        return err_set(err, errno, "gather what goes to the nodes: %s", strerror(errno));
    return 0;
}

int stream_bytes(FILE *out, int fd, uint64_t size, const char *path, struct err *err)
{
    char buf[65536];

    while (size > 0) {
        ssize_t n = read(fd, buf, size < sizeof buf ? (size_t)size : sizeof buf);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(err, n < 0 ? errno : EIO, "read %s: %s", path,
                           n < 0 ? strerror(errno) : "it has become shorter");
        if (fwrite(buf, (size_t)n, 1, out) != 1)
            return err_set(err, errno, "gather %s: %s", path, strerror(errno));
        size -= (uint64_t)n;
    }
    return 0;
}
