/* stream.c - fuzz: headers of stream messages */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "bus/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char again[STREAM_HEADER];
    struct stream_msg m;

    for (; size >= STREAM_HEADER; data += STREAM_HEADER, size -= STREAM_HEADER) {
        unsigned char *exact = malloc(STREAM_HEADER); /* ASan sees a read too far */
        memcpy(exact, data, STREAM_HEADER);
        int rc = stream_unpack(&m, exact);
        free(exact);
        if (rc < 0)
            continue;
        if (m.kind > STREAM_TAKEN || m.fd > 2 || m.len > STREAM_BODY_MAX)
            abort();
        stream_pack(again, &m);
        if (memcmp(again, data, STREAM_HEADER) != 0)
            abort();
    }
    return 0;
}
