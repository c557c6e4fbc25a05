/* going.c - what a launch says of a process that goes elsewhere itself */
#include "image/going.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static FILE *open_proc(pid_t pid, const char *name)
{
    char path[128];

    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    return fopen(path, "re");
}

static void pack_child(pid_t pid, mp_buf *rows)
{
    char comm[16] = "";
    FILE *f = open_proc(pid, "comm");

    if (f && !fgets(comm, sizeof comm, f))
        comm[0] = 0;
    if (f)
        fclose(f);
    comm[strcspn(comm, "\n")] = 0;
    const char *name = comm[0] ? comm : "child";
    mp_array(rows, 3);
    mp_int(rows, pid);
    mp_bool(rows, getpgid(pid) == pid);
    mp_bin(rows, name, strlen(name));
}

int going_children(pid_t pid, mp_buf *rows)
{
    char name[64];
    int child, n = 0;

    pid = pid ? pid : getpid();
    snprintf(name, sizeof name, "task/%d/children", (int)pid);
    FILE *f = open_proc(pid, name);
    if (!f)
        return -1;
    for (; fscanf(f, "%d", &child) == 1; n++)
        pack_child(child, rows);
    fclose(f);
    return n;
}

uint64_t going_bytes(pid_t pid)
{
    unsigned long all, of_files;
    FILE *f = open_proc(pid ? pid : getpid(), "statm");
    bool known = f && fscanf(f, "%*u %lu %lu", &all, &of_files) == 2 && all >= of_files;

    if (f)
        fclose(f);
    return known ? (all - of_files) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}
