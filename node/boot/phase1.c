/* phase1.c - the image, from the master or from other nodes, and into its kernel */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include "node/boot/boot.h"
#include "node/boot/fetch.h"

static void say(const char *text)
{
    boot_say("%s", text);
}

/* What the image wants and what the boot server adds, as one line. */
static int join(const struct image *im, const struct boot_image *got, char out[IMAGE_CMDLINE],
                struct err *err)
{
    int n = snprintf(out, IMAGE_CMDLINE, "%s%s%s", im->cmdline, *im->cmdline ? " " : "",
                     got->cmdline);

    if (n >= IMAGE_CMDLINE)
        return err_set(err, E2BIG, "the kernel's command line is longer than %d characters",
                       IMAGE_CMDLINE - 1);
    return 0;
}

static int check(const struct image *im, struct err *err)
{
    struct utsname u;

    uname(&u);
    if (im->phase != 2)
        return err_set(err, EINVAL, "the image that the master has for this node is of phase 1, "
                       "as we are: make one with beoboot -2");
    if (strcmp(im->arch, u.machine))
        return err_set(err, EINVAL, "the image that the master has for this node is for %s, and "
                       "this machine is %s", im->arch, u.machine);
    return 0;
}

int phase1_run(const char *server, const struct net *net, struct err *err)
{
    const char *macs[sizeof net->others / sizeof *net->others + 1] = { NULL };
    struct boot_image got = { .fd = -1 };
    char cmdline[IMAGE_CMDLINE];
    struct image im;

    for (size_t i = 0; i < sizeof net->others / sizeof *net->others && *net->others[i]; i++)
        macs[i] = net->others[i];
    boot_say("asking %s what to run", server);
    tell("fetch");
    if (boot_fetch(server, macs, &(struct boot_fetch_how){ .say = say, .limit_ms = -1 }, &got,
                   err) < 0 ||
        image_open_fd(got.fd, "the image", &im, err) < 0 || check(&im, err) < 0 ||
        join(&im, &got, cmdline, err) < 0)
        return -1;
    boot_say("image %.12s... for node %d, %llu bytes, %d waits for a timer: starting kernel %s",
             got.hash, got.node, (unsigned long long)got.size, got.timers, im.release);
    tell("kexec");
    return kexec_go(&im, cmdline, err);
}
