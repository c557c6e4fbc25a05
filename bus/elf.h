/* elf.h - which files a program needs: its loader, its libraries, theirs in turn
 *
 * Read as the calling thread may read. Only 64-bit programs of this machine's
 * kind, and scripts. Linked by who needs it; threads: no state.
 */
#ifndef BUS_ELF_H
#define BUS_ELF_H
#include <stddef.h>
#include "bus/err.h"

struct file_list {
    char **path; /* first: the program */
    size_t n;
};

/* Errors name the file and what is wrong (ENOENT, EACCES, ENOEXEC, ELIBACC). */
int elf_needs(const char *path, const char *library_path, struct file_list *out,
              struct err *err);
void file_list_free(struct file_list *l); /* fits CLEANUP() */

/* The name that programs ask for a library by (DT_SONAME) into a buffer of
 * room bytes; "" when it has none. -1: not a library of this machine's kind. */
int elf_soname(const char *path, char *out, size_t room, struct err *err);

#endif
