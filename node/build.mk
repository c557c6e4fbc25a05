helpers += $(LIBEXEC)/bpghost

# No libc and no sanitizers in a ghost: it is its own whole program.
GHOST_FLAGS := -std=gnu11 -Os -Wall -Wextra -Werror -Wshadow -Wvla -I. \
    -DGHOST_VERSION='"$(shell sed -n 's/.*define CM_VERSION "\(.*\)"/\1/p' bus/rundir.h)"' \
    -static -nostdlib -nostartfiles -ffreestanding -fno-pie -fno-stack-protector \
    -fno-asynchronous-unwind-tables -fno-unwind-tables -fcf-protection=none -fno-builtin \
    -Wl,-n,-z,noseparate-code,-z,noexecstack,--build-id=none -s
$(LIBEXEC)/bpghost: node/bpghost.c node/bpghost_text.h node/bpghost_wire.h node/nolibc.h node/nolibc_mem.h bus/rundir.h
	@mkdir -p $(@D)
	$(CC) $(GHOST_FLAGS) -o $@ node/bpghost.c
	@# so that a user's ghosts can be given the pids that processes have on nodes
	@-[ "$$(id -u)" != 0 ] || setcap cap_checkpoint_restore=ep $@ 2>/dev/null

helpers += $(LIBEXEC)/bpbegin
$(LIBEXEC)/bpbegin: node/bpbegin.c node/begin.h node/bpghost_text.h node/nolibc.h node/nolibc_mem.h bus/rundir.h
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(GHOST_FLAGS) -o $@ node/bpbegin.c

# A boot image fetched as nodes do it; phase 1 has the same two files.
helpers += $(LIBEXEC)/bpfetch
$(LIBEXEC)/bpfetch: LIBS = -lcrypto
$(LIBEXEC)/bpfetch: $(call objs,node/boot/bpfetch.c node/boot/fetch.c node/boot/share.c) $(LIBCM)
	$(LINK)

helpers += $(LIBEXEC)/bpinit
$(LIBEXEC)/bpinit: LIBS = $(MP_LIBS)
$(LIBEXEC)/bpinit: $(call objs,node/bpinit.c node/bpinit_root.c node/bpinit_space.c \
    node/bpinit_spawn.c node/bpinit_child.c node/bpinit_begin.c node/bpinit_answer.c node/bpinit_bodies.c node/bpinit_reap.c \
    node/bpinit_journal.c node/bpinit_pump.c node/bpinit_io.c node/redirect.c node/bpinit_cgroup.c node/bpinit_arrive.c node/bpinit_into.c node/bpinit_signal.c \
    node/bpinit_watch.c node/bpinit_kids.c node/bpinit_kin.c node/bpinit_left.c node/bpinit_stand.c node/bpinit_ghosts.c node/bpinit_local.c node/bpinit_mover.c \
    node/rings.c) $(mover_objs) $(LIBCM)
	$(LINK)

helpers += $(LIBEXEC)/bpstart
$(LIBEXEC)/bpstart: LIBS = $(MP_LIBS)
$(LIBEXEC)/bpstart: $(call objs,node/bpstart.c node/bpinit_io.c node/redirect.c image/ticket.c) $(LIBCM)
	$(LINK)

helpers += $(LIBEXEC)/bpvnode
$(LIBEXEC)/bpvnode: $(call objs,node/bpvnode.c node/bpvnode_parts.c node/bpvnode_machine.c \
    node/bpvnode_cgroup.c node/vnet.c) $(LIBCM)
	$(LINK)

# Neither libc nor relocations: it goes on from a copy of itself elsewhere.
RESTORE_FLAGS := -std=gnu11 -O2 -Wall -Wextra -Werror -Wshadow -Wvla -I. \
    -DRESTORE_VERSION='"$(shell sed -n 's/.*define CM_VERSION "\(.*\)"/\1/p' bus/rundir.h)"' \
    -static -nostdlib -nostartfiles -ffreestanding -fPIE -fvisibility=hidden \
    -fno-stack-protector -fno-jump-tables -fno-asynchronous-unwind-tables -fno-unwind-tables \
    -fcf-protection=none -fno-builtin -mgeneral-regs-only \
    -Wl,-T,node/restore.ld,-z,noexecstack,--build-id=none,--no-warn-rwx-segments -s
restore_src := node/restore.c node/restore_maps.c node/restore_room.c node/restore_fill.c node/restore_files.c \
    node/restore_go.c
helpers += $(LIBEXEC)/bprestore
$(LIBEXEC)/bprestore: $(restore_src) node/restore.h node/restore.ld node/nolibc.h image/image.h \
    image/machine.h bus/rundir.h
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(RESTORE_FLAGS) -o $@ $(restore_src)
	@# so that a restored process can have its own program as its exe link
	@-[ "$$(id -u)" != 0 ] || setcap cap_checkpoint_restore=ep $@ 2>/dev/null
