/* elf.c - which files a program needs: interpreter, libraries, theirs in turn
 *
 * The order of search is ld.so's: RPATH (when there is no RUNPATH), the
 * caller's LD_LIBRARY_PATH, RUNPATH, /etc/ld.so.cache, /lib, /usr/lib. Runs
 * with the user's file access, so nothing is read that he could not read.
 */
#include "bus/elf.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__x86_64__)
#define OUR_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OUR_MACHINE EM_AARCH64
#else
#error "which e_machine do programs of this machine have?"
#endif

#define MAX_FILES 512
#define MAX_SCRIPTS 4 /* interpreters of interpreters, as the kernel has it */

struct object { /* one mapped ELF file */
    const unsigned char *p;
    size_t len;
    char *origin; /* its folder */
    char *rpath, *runpath;
};

void file_list_free(struct file_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->path[i]);
    free(l->path);
    memset(l, 0, sizeof *l);
}

static bool listed(const struct file_list *l, const char *path)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->path[i], path) == 0)
            return true;
    return false;
}

static int list_add(struct file_list *l, const char *path, struct err *err)
{
    if (listed(l, path))
        return 0;
    if (l->n == MAX_FILES)
        return err_set(err, E2BIG, "%s: needs more than %d files", l->path[0], MAX_FILES);
    char **p = realloc(l->path, (l->n + 1) * sizeof *p);
    char *copy = strdup(path);
    if (p)
        l->path = p;
    if (!p || !copy) {
        free(copy);
        return err_set(err, ENOMEM, "out of memory");
    }
    l->path[l->n++] = copy;
    return 0;
}

static int map_file(const char *path, struct object *o, struct err *err)
{
    struct stat st;
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    memset(o, 0, sizeof *o);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(err, EACCES, "%s: not a regular file", path);
    if (st.st_size == 0)
        return err_set(err, ENOEXEC, "%s: the file is empty", path);
    o->len = (size_t)st.st_size;
    void *p = mmap(NULL, o->len, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    o->p = p;
    const char *slash = strrchr(path, '/');
    o->origin = slash && slash != path ? strndup(path, (size_t)(slash - path)) : strdup("/");
    return o->origin ? 0 : err_set(err, ENOMEM, "out of memory");
}

static void unmap(struct object *o)
{
    if (o->p)
        munmap((void *)(uintptr_t)o->p, o->len);
    free(o->origin);
    free(o->rpath);
    free(o->runpath);
    memset(o, 0, sizeof *o);
}

static const void *at(const struct object *o, uint64_t off, uint64_t len)
{
    return off <= o->len && len <= o->len - off ? o->p + off : NULL;
}

/* File offset of a virtual address, by the program headers. */
static bool offset_of(const struct object *o, const Elf64_Phdr *ph, unsigned n, uint64_t va,
                      uint64_t *off)
{
    for (unsigned i = 0; i < n; i++)
        if (ph[i].p_type == PT_LOAD && va >= ph[i].p_vaddr &&
            va - ph[i].p_vaddr < ph[i].p_filesz) {
            *off = va - ph[i].p_vaddr + ph[i].p_offset;
            return *off < o->len;
        }
    return false;
}

static const char *text_at(const struct object *o, uint64_t off)
{
    if (off >= o->len || !memchr(o->p + off, 0, o->len - off))
        return NULL;
    return (const char *)o->p + off;
}

/* $ORIGIN and ${ORIGIN} in a search path. */
static char *expand(const char *dirs, const char *origin)
{
    size_t room = strlen(dirs) + 1;
    for (const char *p = dirs; (p = strchr(p, '$')); p++)
        room += strlen(origin);
    char *out = malloc(room), *w = out;
    while (out && *dirs) {
        size_t skip = strncmp(dirs, "$ORIGIN", 7) == 0     ? 7
                      : strncmp(dirs, "${ORIGIN}", 9) == 0 ? 9
                                                           : 0;
        if (skip) {
            memcpy(w, origin, strlen(origin));
            w += strlen(origin);
            dirs += skip;
        } else {
            *w++ = *dirs++;
        }
    }
    if (out)
        *w = 0;
    return out;
}

static bool same_kind(const char *path, const Elf64_Ehdr *want)
{
    Elf64_Ehdr h;
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    return fd >= 0 && read(fd, &h, sizeof h) == sizeof h &&
           memcmp(h.e_ident, ELFMAG, SELFMAG) == 0 &&
           h.e_ident[EI_CLASS] == want->e_ident[EI_CLASS] && h.e_machine == want->e_machine;
}

static bool in_dirs(const char *dirs, const char *name, const Elf64_Ehdr *like, char *out)
{
    while (dirs && *dirs) {
        size_t n = strcspn(dirs, ":;");
        int len = snprintf(out, PATH_MAX, "%.*s/%s", n ? (int)n : 1, n ? dirs : ".", name);
        if (len > 0 && len < PATH_MAX && out[0] == '/' && same_kind(out, like))
            return true;
        dirs += n;
        dirs += *dirs != 0;
    }
    return false;
}

/* --- /etc/ld.so.cache: "glibc-ld.so.cache1.1", count, then entries --- */

struct cache_entry {
    int32_t flags;
    uint32_t key, value, osversion;
    uint64_t hwcap;
};

static bool in_cache(const char *name, const Elf64_Ehdr *like, char *out)
{
    static const char magic[] = "glibc-ld.so.cache1.1";
    struct object o;
    bool found = false;

    if (map_file("/etc/ld.so.cache", &o, NULL) < 0) {
        unmap(&o);
        return false;
    }
    uint32_t count = 0;
    if (at(&o, 0, 48) && memcmp(o.p, magic, sizeof magic - 1) == 0)
        memcpy(&count, o.p + 20, 4);
    for (uint32_t i = 0; i < count && !found; i++) {
        struct cache_entry e;
        const void *p = at(&o, 48 + (uint64_t)i * sizeof e, sizeof e);
        if (!p)
            break;
        memcpy(&e, p, sizeof e);
        const char *key = text_at(&o, e.key), *value = text_at(&o, e.value);
        if (!key || !value || strcmp(key, name) != 0 || strlen(value) >= PATH_MAX)
            continue;
        if (same_kind(value, like)) {
            snprintf(out, PATH_MAX, "%s", value);
            found = true;
        }
    }
    unmap(&o);
    return found;
}

/* Where Debian's loader looks when there is no cache, as on nodes. */
#if defined(__x86_64__)
#define MULTIARCH "x86_64-linux-gnu"
#elif defined(__aarch64__)
#define MULTIARCH "aarch64-linux-gnu"
#else
#define MULTIARCH "."
#endif
#define STANDARD_DIRS "/lib/" MULTIARCH ":/usr/lib/" MULTIARCH ":/lib:/usr/lib:/lib64:/usr/lib64"

static int find_library(const struct object *o, const Elf64_Ehdr *eh, const char *name,
                        const char *library_path, const char *who, char *out,
                        struct err *err)
{
    if (strchr(name, '/')) {
        if (name[0] == '/' && strlen(name) < PATH_MAX && access(name, F_OK) == 0) {
            snprintf(out, PATH_MAX, "%s", name);
            return 0;
        }
    } else if ((!o->runpath && in_dirs(o->rpath, name, eh, out)) ||
               in_dirs(library_path, name, eh, out) || in_dirs(o->runpath, name, eh, out) ||
               in_cache(name, eh, out) ||
               in_dirs(STANDARD_DIRS, name, eh, out)) {
        return 0;
    }
    return err_set(err, ELIBACC, "%s: needs the library %s, which is not on the master", who,
                   name);
}

/* The dynamic section's strings: first RPATH and RUNPATH, then each NEEDED. */
static int dynamic(struct object *o, const Elf64_Ehdr *eh, const Elf64_Phdr *ph, unsigned nph,
                   const Elf64_Phdr *dyn, const char *path, const char *library_path,
                   struct file_list *out, struct err *err)
{
    uint64_t strtab = 0, off;
    size_t n = dyn->p_filesz / sizeof(Elf64_Dyn);
    const Elf64_Dyn *d = at(o, dyn->p_offset, n * sizeof *d);

    if (!d)
        return err_set(err, ENOEXEC, "%s: damaged (dynamic section)", path);
    for (size_t i = 0; i < n && d[i].d_tag != DT_NULL; i++)
        if (d[i].d_tag == DT_STRTAB)
            strtab = d[i].d_un.d_ptr;
    if (!offset_of(o, ph, nph, strtab, &off))
        return err_set(err, ENOEXEC, "%s: damaged (string table)", path);
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < n && d[i].d_tag != DT_NULL; i++) {
            int64_t tag = d[i].d_tag;
            if (tag != DT_NEEDED && tag != DT_RPATH && tag != DT_RUNPATH)
                continue;
            const char *s = text_at(o, off + d[i].d_un.d_val);
            if (!s)
                return err_set(err, ENOEXEC, "%s: damaged (a library's name)", path);
            if (pass == 0 && tag == DT_RPATH && !o->rpath)
                o->rpath = expand(s, o->origin);
            else if (pass == 0 && tag == DT_RUNPATH && !o->runpath)
                o->runpath = expand(s, o->origin);
            else if (pass == 1 && tag == DT_NEEDED) {
                char lib[PATH_MAX];
                if (find_library(o, eh, s, library_path, path, lib, err) < 0 ||
                    list_add(out, lib, err) < 0)
                    return -1;
            }
        }
    return 0;
}

/* A script: its interpreter is needed too. 1: it was one. */
static int script(const struct object *o, const char *path, char *interp, struct err *err)
{
    if (o->len < 3 || memcmp(o->p, "#!", 2) != 0)
        return 0;
    size_t end = o->len < 256 ? o->len : 256, i = 2;
    while (i < end && (o->p[i] == ' ' || o->p[i] == '\t'))
        i++;
    size_t start = i;
    while (i < end && !strchr(" \t\r\n", o->p[i]) && o->p[i])
        i++;
    if (i == start)
        return err_set(err, ENOEXEC, "%s: names no interpreter after #!", path);
    snprintf(interp, PATH_MAX, "%.*s", (int)(i - start), (const char *)o->p + start);
    if (interp[0] != '/' || access(interp, F_OK) < 0)
        return err_set(err, ENOENT, "%s: its interpreter %s is not on the master", path,
                       interp);
    return 1;
}

/* The program headers of a file that this machine's loader takes; NULL: *err. */
static const Elf64_Phdr *headers(const struct object *o, const char *path, unsigned *n,
                                 struct err *err)
{
    const Elf64_Ehdr *eh = at(o, 0, sizeof *eh);
    const Elf64_Phdr *ph = NULL;

    if (!eh || memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0)
        err_set(err, ENOEXEC, "%s: neither a program nor a script with #!", path);
    else if (eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_ident[EI_DATA] != ELFDATA2LSB ||
             eh->e_machine != OUR_MACHINE)
        err_set(err, ENOEXEC, "%s: not a 64-bit program of this machine's kind", path);
    else if (eh->e_phentsize != sizeof(Elf64_Phdr) ||
             !(ph = at(o, eh->e_phoff, (uint64_t)eh->e_phnum * sizeof *ph)) ||
             (uintptr_t)ph % 8)
        err_set(err, ENOEXEC, "%s: damaged (program headers)", path);
    else {
        *n = eh->e_phnum;
        return ph;
    }
    return NULL;
}

static int one_elf(struct object *o, const char *path, const char *library_path,
                   struct file_list *out, struct err *err)
{
    const Elf64_Ehdr *eh = at(o, 0, sizeof *eh);
    unsigned n = 0;
    const Elf64_Phdr *ph = headers(o, path, &n, err);

    if (!ph)
        return -1;
    for (unsigned i = 0; i < n; i++) {
        if (ph[i].p_type == PT_INTERP) {
            const char *s = text_at(o, ph[i].p_offset);
            if (!s || s[0] != '/')
                return err_set(err, ENOEXEC, "%s: damaged (interpreter)", path);
            if (access(s, F_OK) < 0)
                return err_set(err, ENOENT, "%s: its loader %s is not on the master", path, s);
            if (list_add(out, s, err) < 0)
                return -1;
        }
        if (ph[i].p_type == PT_DYNAMIC &&
            dynamic(o, eh, ph, n, &ph[i], path, library_path, out, err) < 0)
            return -1;
    }
    return 0;
}

/* ld.so on the node looks into its own folders; for others it needs the cache. */
static bool usual_folder(const char *path)
{
    static const char *const usual[] = { "/lib/", "/usr/lib/", "/lib64/", "/usr/lib64/" };
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        size_t n = strlen(usual[i]);
        if (strncmp(path, usual[i], n) == 0) {
            const char *rest = path + n, *slash = strchr(rest, '/');
            return !slash || (strncmp(rest, "x86_64-linux-gnu/", 17) == 0 &&
                              !strchr(rest + 17, '/')) ||
                   (strncmp(rest, "aarch64-linux-gnu/", 18) == 0 && !strchr(rest + 18, '/'));
        }
    }
    return false;
}

int elf_needs(const char *path, const char *library_path, struct file_list *out,
              struct err *err)
{
    char interp[PATH_MAX];

    memset(out, 0, sizeof *out);
    if (list_add(out, path, err) < 0)
        return -1;
    for (size_t i = 0, scripts = 0; i < out->n; i++) {
        struct object o;
        int rc = map_file(out->path[i], &o, err);
        int is_script = rc < 0 ? -1 : script(&o, out->path[i], interp, err);
        if (is_script == 1 && ++scripts > MAX_SCRIPTS)
            rc = err_set(err, ELOOP, "%s: too many interpreters of interpreters", path);
        else if (is_script == 1)
            rc = list_add(out, interp, err);
        else if (is_script == 0)
            rc = one_elf(&o, out->path[i], library_path, out, err);
        else
            rc = -1;
        unmap(&o);
        if (rc < 0) {
            file_list_free(out);
            return -1;
        }
    }
    for (size_t i = 1; i < out->n; i++)
        if (strstr(out->path[i], ".so") && !usual_folder(out->path[i]))
            return access("/etc/ld.so.cache", R_OK) < 0 ? 0
                                                        : list_add(out, "/etc/ld.so.cache", err);
    return 0;
}

/* ---- the name a library is asked for by ---- */

static const char *soname(const struct object *o, const Elf64_Phdr *ph, unsigned nph)
{
    uint64_t strtab = 0, off, name = 0;
    bool named = false;

    for (unsigned i = 0; i < nph; i++) {
        if (ph[i].p_type != PT_DYNAMIC)
            continue;
        size_t n = ph[i].p_filesz / sizeof(Elf64_Dyn);
        const Elf64_Dyn *d = at(o, ph[i].p_offset, n * sizeof *d);
        for (size_t k = 0; d && (uintptr_t)d % 8 == 0 && k < n && d[k].d_tag != DT_NULL; k++) {
            if (d[k].d_tag == DT_STRTAB)
                strtab = d[k].d_un.d_ptr;
            if (d[k].d_tag == DT_SONAME) {
                name = d[k].d_un.d_val;
                named = true;
            }
        }
    }
    if (!named || name >= o->len || !offset_of(o, ph, nph, strtab, &off))
        return NULL;
    return text_at(o, off + name);
}

int elf_soname(const char *path, char *out, size_t room, struct err *err)
{
    struct object o;
    unsigned n = 0;
    const Elf64_Phdr *ph = NULL;

    *out = 0;
    if (map_file(path, &o, err) == 0)
        ph = headers(&o, path, &n, err);
    const char *name = ph ? soname(&o, ph, n) : NULL;
    if (name && strlen(name) < room && !strchr(name, '/'))
        snprintf(out, room, "%s", name);
    unmap(&o);
    return ph ? 0 : -1;
}
