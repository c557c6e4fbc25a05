# libnss_bproc: build/lib/libnss_bproc.so.2. It is loaded into every program of a
# node, so it is never built with sanitizers, and nothing but its own names shows.
NSS_SO := $(LIB)/libnss_bproc.so.2
nss_src := $(addprefix clients/libnss_bproc/,ask.c hosts.c users.c) \
    bus/err.c bus/mp.c bus/pkt.c bus/wire.c bus/gate.c bus/rundir.c bus/loop.c
all: $(NSS_SO)
$(NSS_SO): $(nss_src) clients/libnss_bproc/libnss_bproc.map $(wildcard clients/libnss_bproc/*.h bus/*.h)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -I. -D_GNU_SOURCE $(filter-out -fsanitize% -fno-sanitize%,$(CFLAGS)) \
	    $(EXTRA_CFLAGS) -shared -Wl,-soname,libnss_bproc.so.2 -Wl,--as-needed -Wl,-z,defs \
	    -Wl,--version-script=clients/libnss_bproc/libnss_bproc.map -o $@ $(nss_src) $(MP_LIBS)

install: install-nss
install-nss: $(NSS_SO)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib $(NSS_SO)
.PHONY: install-nss
