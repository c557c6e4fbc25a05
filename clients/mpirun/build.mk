# mpirun, and what runs on nodes for it
mpirun_dir := clients/mpirun/

helpers += $(LIBEXEC)/bppmi
$(LIBEXEC)/bppmi: LIBS = $(MP_LIBS)
$(LIBEXEC)/bppmi: $(call objs,$(addprefix $(mpirun_dir),pmi1.c seats.c line.c) clients/common/opt.c) $(LIBCM)
	$(LINK)

# Where Debian's libpmix-dev is installed (make deps sees to that).
pmix_include := $(patsubst %/pmix_server.h,%,$(firstword $(wildcard \
    /usr/lib/*/pmix2/include/pmix_server.h /usr/include/pmix_server.h)))
ifneq ($(pmix_include),)
helpers += $(LIBEXEC)/bppmix
bppmix_objs := $(call objs,$(addprefix $(mpirun_dir),pmix.c notes.c))
$(bppmix_objs): CPPFLAGS += -isystem $(pmix_include)
$(LIBEXEC)/bppmix: LIBS = $(MP_LIBS) -lpmix
$(LIBEXEC)/bppmix: $(bppmix_objs) $(call objs,$(addprefix $(mpirun_dir),seats.c line.c) clients/common/opt.c) $(LIBCM)
	$(LINK)
endif

# Static, and without sanitizers: it becomes the user's program.
helpers += $(LIBEXEC)/bprank
$(LIBEXEC)/bprank: $(mpirun_dir)bprank.c bus/rundir.h
	@mkdir -p $(@D)
	$(call say,CC)$(CC) -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -Wshadow -I. -static -s \
	    -o $@ $(mpirun_dir)bprank.c

bins += $(BIN)/mpirun
$(BIN)/mpirun: LIBS = $(MP_LIBS) -lm
$(BIN)/mpirun: $(call objs,$(addprefix $(mpirun_dir),main.c options.c map.c kind.c start.c fold.c \
    ranks.c end.c) bus/elf.c) $(B)/libclients.a $(LIBCM)
	$(LINK)

# Loaded into the user's program: of libc alone, and without sanitizers.
all: $(LIBEXEC)/mpich_wait.so
$(LIBEXEC)/mpich_wait.so: $(mpirun_dir)mpich_wait.c
	@mkdir -p $(@D)
	$(call say,CC)$(CC) -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -Wshadow -fPIC -shared \
	    -Wl,-z,defs -o $@ $<
	@chmod 644 $@

install: install-mpirun
install-mpirun: $(LIBEXEC)/mpich_wait.so
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/libexec/clustermatic $(LIBEXEC)/mpich_wait.so
	install -D -m 644 -t $(SHARE)/doc/clustermatic/examples $(wildcard doc/examples/*.c)
.PHONY: install-mpirun
