# libfuse's headers want a version to be asked for, and speak of POSIX types only
FUSE_CFLAGS := $(shell pkg-config --cflags fuse3 2>/dev/null || echo -I/usr/include/fuse3)
FUSE_LIBS := -lfuse3

helpers += $(LIBEXEC)/bpfs
bpfs_objs := $(call objs,$(addprefix services/bpfs/,main.c mount.c fs.c look.c status.c change.c \
    xattr.c table.c follow.c))
$(bpfs_objs): CPPFLAGS += $(FUSE_CFLAGS)
$(LIBEXEC)/bpfs: LIBS = $(FUSE_LIBS) $(ZMQ_LIBS) $(MP_LIBS)
$(LIBEXEC)/bpfs: $(bpfs_objs) $(LIBBUS) $(LIBCM)
	$(LINK)
