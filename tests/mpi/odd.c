/* odd.c - ranks that end, read and write in ways that mpirun must cope with
 *
 * odd exit RANK CODE     this rank leaves with CODE after MPI_Finalize
 * odd signal RANK SIG    it dies by SIG, the others wait for it
 * odd abort RANK CODE    it calls MPI_Abort
 * odd unfinished RANK    it leaves with 0 and no MPI_Finalize
 * odd hang               all wait for ever: a line "ready" when all are there
 * odd deaf               the same, and SIGINT and SIGTERM are ignored
 * odd copy               rank 0's stdin to its stdout, as it is
 * odd lines N            every rank prints N lines of one length in small pieces
 * odd file               each rank writes files on its node and reads them back
 * odd spawn              MPI_Comm_spawn, which is refused
 * odd names              so are names
 * odd ports              and ports, or what is done with them
 * odd turns              for each line of rank 0's stdin all ranks add something up
 */
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int rank, size;

static void wait_for_ever(void)
{
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) {
        printf("ready\n");
        fflush(stdout);
    }
    for (;;)
        pause();
}

static void copy(void)
{
    char buf[4096];
    ssize_t n;

    while (rank == 0 && (n = read(0, buf, sizeof buf)) > 0)
        if (write(1, buf, (size_t)n) != n)
            MPI_Abort(MPI_COMM_WORLD, 9);
}

static void lines(int n)
{
    char text[64];

    for (int i = 0; i < n; i++) {
        int len = snprintf(text, sizeof text, "rank %03d line %05d of %05d\n", rank, i, n);
        if (write(1, text, 7) != 7 || write(1, text + 7, (size_t)len - 7) != len - 7)
            MPI_Abort(MPI_COMM_WORLD, 9);
    }
}

static void mpi_file(char *name) /* the same by MPI's own calls */
{
    MPI_File f;
    int there = -1, here = 1000 + rank;
    MPI_Status st;

    MPI_File_set_errhandler(MPI_FILE_NULL, MPI_ERRORS_ARE_FATAL);
    MPI_File_open(MPI_COMM_SELF, name, MPI_MODE_CREATE | MPI_MODE_RDWR | MPI_MODE_DELETE_ON_CLOSE,
                  MPI_INFO_NULL, &f);
    MPI_File_write_at(f, 4096, &here, 1, MPI_INT, &st);
    MPI_File_read_at(f, 4096, &there, 1, MPI_INT, &st);
    MPI_File_close(&f);
    if (there != here)
        MPI_Abort(MPI_COMM_WORLD, 9);
}

static void file(void)
{
    char name[64], host[64] = "", back[64] = "";

    snprintf(name, sizeof name, "/tmp/odd.%d", rank);
    gethostname(host, sizeof host - 1);
    FILE *f = fopen(name, "w+");
    if (!f || fprintf(f, "%s %d", host, rank) < 0 || fseek(f, 0, SEEK_SET) < 0 ||
        fread(back, 1, sizeof back - 1, f) == 0)
        MPI_Abort(MPI_COMM_WORLD, 9);
    printf("%s\n", back);
    fclose(f);
    unlink(name);
    mpi_file(name);
}

static void spawn(void)
{
    MPI_Comm kids;
    int codes[1];

    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    int rc = MPI_Comm_spawn("/bin/true", MPI_ARGV_NULL, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &kids,
                            codes);
    printf("spawn %s\n", rc == MPI_SUCCESS ? "worked" : "was refused");
}

static const char *fate(int rc) { return rc == MPI_SUCCESS ? "worked" : "was refused"; }

static void names(void)
{
    char port[MPI_MAX_PORT_NAME] = "tag#0$connentry#00$";

    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    printf("publish %s\n", fate(MPI_Publish_name("odd", MPI_INFO_NULL, port)));
    printf("lookup %s\n", fate(MPI_Lookup_name("odd", MPI_INFO_NULL, port)));
    printf("unpublish %s\n", fate(MPI_Unpublish_name("odd", MPI_INFO_NULL, port)));
}

static void ports(void)
{
    char port[MPI_MAX_PORT_NAME] = "tag#0$connentry#00$", text[MPI_MAX_ERROR_STRING];
    MPI_Comm other;
    int n;

    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    if (MPI_Open_port(MPI_INFO_NULL, port) == MPI_SUCCESS)
        printf("accept %s\n",
               fate(MPI_Comm_accept(port, MPI_INFO_NULL, 0, MPI_COMM_SELF, &other)));
    else
        printf("accept was refused\n"); /* nobody can come without one */
    int rc = MPI_Comm_connect(port, MPI_INFO_NULL, 0, MPI_COMM_SELF, &other);
    printf("connect %s\n", fate(rc));
    MPI_Error_string(rc, text, &n);
    fprintf(stderr, "%s\n", text);
}

static void turns(void)
{
    int n = 0, more = 1, sum;
    char line[64];

    for (;;) {
        if (rank == 0)
            more = fgets(line, sizeof line, stdin) != NULL;
        MPI_Bcast(&more, 1, MPI_INT, 0, MPI_COMM_WORLD);
        if (!more)
            return;
        int part = ++n * (rank + 1);
        MPI_Allreduce(&part, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
        if (sum != n * size * (size + 1) / 2)
            MPI_Abort(MPI_COMM_WORLD, 9);
        if (rank == size - 1) {
            printf("turn %d: %d\n", n, sum);
            fflush(stdout);
        }
    }
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    int who = argc > 2 ? atoi(argv[2]) : 0, number = argc > 3 ? atoi(argv[3]) : 0;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Barrier(MPI_COMM_WORLD); /* all are there and know each other */
    if (strcmp(what, "deaf") == 0) {
        signal(SIGINT, SIG_IGN);
        signal(SIGTERM, SIG_IGN);
    }
    if (strcmp(what, "hang") == 0 || strcmp(what, "deaf") == 0)
        wait_for_ever();
    if (strcmp(what, "signal") == 0) {
        if (rank == who)
            raise(number);
        wait_for_ever();
    }
    if (strcmp(what, "abort") == 0) {
        if (rank == who)
            MPI_Abort(MPI_COMM_WORLD, number);
        wait_for_ever();
    }
    if (strcmp(what, "unfinished") == 0) {
        if (rank == who)
            _exit(0);
        wait_for_ever();
    }
    if (strcmp(what, "copy") == 0)
        copy();
    if (strcmp(what, "lines") == 0)
        lines(who);
    if (strcmp(what, "file") == 0)
        file();
    if (strcmp(what, "spawn") == 0)
        spawn();
    if (strcmp(what, "names") == 0)
        names();
    if (strcmp(what, "ports") == 0)
        ports();
    if (strcmp(what, "turns") == 0)
        turns();
    fflush(stdout);
    MPI_Finalize();
    return strcmp(what, "exit") == 0 && rank == who ? number : 0;
}
