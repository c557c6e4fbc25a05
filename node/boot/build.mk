# Static, and never with sanitizers: it is alone in its image, and small.
boot_src := $(addprefix node/boot/,main.c params.c modules.c dhcp.c net.c tell.c phase1.c \
    kexec.c life.c fetch.c share.c) \
    node/vnet.c node/bpvnode_machine.c node/bpvnode_parts.c node/bpvnode_cgroup.c \
    bus/err.c bus/loop.c bus/pkt.c bus/rundir.c bus/cgroup.c bus/image.c
BOOT_FLAGS := $(filter-out -O% -g -fsanitize% -fno-omit% -fno-sanitize% -fPIC,$(CFLAGS)) -O2 -static -s
helpers += $(LIBEXEC)/bpboot
$(LIBEXEC)/bpboot: $(boot_src) node/boot/boot.h node/boot/fetch.h node/boot/share.h node/bpvnode.h node/vnet.h node/space.h bus/image.h \
    bus/loop.h bus/err.h bus/pkt.h bus/rundir.h bus/cgroup.h
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -I. -D_GNU_SOURCE $(BOOT_FLAGS) $(EXTRA_CFLAGS) -o $@ $(boot_src) -lcrypto
