/* crc.c - the checksum of images: the fast way and the plain one say the same */
#include "image/image.h"
#include "tests/unit/tap.h"
#include <stdlib.h>

int main(void)
{
    static unsigned char data[3 * 4096 + 100];
    const char *known = "123456789";
    bool same = true;
    uint32_t at_once, pieces = 0;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 2654435761u >> 13);
    ok(image_crc(0, known, 9) == 0xe3069283u, "it is CRC-32C");
    for (size_t n = 0; n < sizeof data - 16; n += 1 + n / 37)
        for (size_t from = 0; from < 16; from += 5)
            same &= (uint32_t)~image_crc_soft(~0x12345678u, data + from, n) ==
                    image_crc(0x12345678u, data + from, n);
    ok(same, "of any length, from anywhere, whatever came before");
    at_once = image_crc(0, data, sizeof data);
    for (size_t at = 0, n; at < sizeof data; at += n) {
        n = at + 5000 < sizeof data ? 5000 : sizeof data - at;
        pieces = image_crc(pieces, data + at, n);
    }
    ok(pieces == at_once, "in pieces as at once");
    return done_testing();
}
