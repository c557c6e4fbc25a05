/* silent.c - connects where images are fetched (silent PATH) and says nothing: ends
 * with 0 when it is hung up on */
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int s = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    char c;

    if (argc != 2 || strlen(argv[1]) >= sizeof a.sun_path)
        return 2;
    memcpy(a.sun_path, argv[1], strlen(argv[1]));
    if (connect(s, (struct sockaddr *)&a, sizeof a) < 0)
        return 3;
    alarm(60);
    return recv(s, &c, 1, 0) != 0;
}
