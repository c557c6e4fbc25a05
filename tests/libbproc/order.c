/* order.c - says things where it is, and goes on elsewhere when it is told to
 *
 *   order self TO LINES   "ready PID"; at USR1: so many lines, goes to TO, one line there
 *   order made TO LINES   the same by a child that it makes, and waits for
 *   order left TO CHILD   makes a child, goes to TO, and says so; the child, at USR1, says
 *                         something too, goes to CHILD, says so there; the parent its status
 *   order back TO         makes a child, goes to TO, says "it ready PID", and whose the child
 *                         is; each time at USR1 it tries to come back, till it does; says
 *                         "stays" or "back", and ends as its child does
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <sys/bproc.h>

static int go(const char *who, int to, int lines)
{
    sigset_t set;
    int sig;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    printf("%s ready %d\n", who, (int)getpid());
    fflush(stdout);
    sigwait(&set, &sig);
    for (int i = 1; i <= lines; i++)
        printf("%s %d of %d lines that are said where it was\n", who, i, lines);
    fflush(stdout);
    if (bproc_move(to) < 0) {
        perror("bproc_move");
        return 1;
    }
    printf("%s there %d\n", who, bproc_currnode());
    return 7;
}

static int left(int to, int child_to)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0)
        return go("child", child_to, 1);
    if (bproc_move(to) < 0)
        return 1;
    printf("parent there %d\n", bproc_currnode());
    fflush(stdout);
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return 1;
    printf("parent sees %d\n", WEXITSTATUS(status));
    return 0;
}

static int back(int to)
{
    int status = 0, sig, here = bproc_currnode();
    sigset_t set;
    pid_t pid = fork();

    while (pid == 0)
        pause();
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    if (bproc_move(to) < 0)
        return 1;
    printf("it ready %d\nchild %d\n", (int)getpid(), (int)pid);
    for (fflush(stdout); bproc_currnode() != here; fflush(stdout)) {
        sigwait(&set, &sig);
        if (bproc_move(here) < 0)
            printf("stays: %d\n", errno);
        else
            puts("back");
    }
    if (waitpid(pid, &status, 0) != pid)
        return 1;
    return WIFSIGNALED(status) ? 100 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
    int status = 0;

    if (argc == 3 && strcmp(argv[1], "back") == 0)
        return back(atoi(argv[2]));
    if (argc != 4)
        return 2;
    if (strcmp(argv[1], "left") == 0)
        return left(atoi(argv[2]), atoi(argv[3]));
    if (strcmp(argv[1], "self") == 0)
        return go("it", atoi(argv[2]), atoi(argv[3]));
    if (fork() == 0)
        return go("it", atoi(argv[2]), atoi(argv[3]));
    return wait(&status) > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
