/* onepacket.c - the smallest /init that there can be: it loads the modules that lie
 * beside it, /m/0.ko and so on, and sends a packet over eth0
 *
 * What a machine needs to come so far is what no boot can do without.
 */
#include <fcntl.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TYPE "\x88\xb5" /* for experiments */

int main(void)
{
    static const char frame[60] = "\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\1" TYPE "up";
    struct ifreq r = { .ifr_name = "eth0" };
    char path[32];

    for (int i = 0, fd; snprintf(path, sizeof path, "/m/%d.ko", i), (fd = open(path, O_RDONLY)) >= 0; i++) {
        syscall(SYS_finit_module, fd, "", 0);
        close(fd);
    }
    int s = socket(AF_PACKET, SOCK_RAW, 0);
    while (ioctl(s, SIOCGIFINDEX, &r) < 0)
        poll(NULL, 0, 1);
    struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = r.ifr_ifindex, .sll_halen = 6 };
    memset(to.sll_addr, 0xff, 6);
    r.ifr_flags = IFF_UP;
    ioctl(s, SIOCSIFFLAGS, &r);
    for (;;) { /* one is enough; the first ones may come before the link */
        sendto(s, frame, sizeof frame, 0, (struct sockaddr *)&to, sizeof to);
        poll(NULL, 0, 5);
    }
}
