/* kind.c - which MPI a program was made for, by the libraries that it needs */
#include <stdlib.h>
#include <string.h>
#include "bus/elf.h"
#include "clients/mpirun/mpirun.h"

static bool named(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');

    return strncmp(slash ? slash + 1 : path, name, strlen(name)) == 0;
}

enum mpi_kind kind_of(const char *path, struct err *err)
{
    enum mpi_kind kind = KIND_NONE;
    struct file_list l;

    if (elf_needs(path, getenv("LD_LIBRARY_PATH"), &l, err) < 0)
        return KIND_AUTO;
    for (size_t i = 0; i < l.n; i++) {
        if (named(l.path[i], "libmpich.so") || named(l.path[i], "libmpi.so.12"))
            kind = KIND_PMI1;
        if (named(l.path[i], "libmpi.so.40") || named(l.path[i], "libpmix.so"))
            kind = KIND_PMIX;
    }
    file_list_free(&l);
    return kind;
}
