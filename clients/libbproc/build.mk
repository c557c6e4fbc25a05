# libbproc: build/lib/libbproc.so.4 and its links, build/lib/libbproc.a, build/include
libbproc_objs := $(call objs,$(addprefix clients/libbproc/,conn.c nodes.c nodeset.c notify.c \
    procs.c admin.c exec.c request.c remote.c local.c move.c kept.c rfork.c transfer.c save.c dump.c execdump.c bring.c) node/redirect.c image/write.c image/pipe.c image/maps.c image/going.c image/timers.c image/ticket.c bus/elf.c)
LIBBPROC_SO := libbproc.so.4.0.0
libbproc := $(addprefix $(LIB)/,$(LIBBPROC_SO) libbproc.so.4 libbproc.so libbproc.a) \
    $(B)/include/sys/bproc.h $(LIB)/pkgconfig/bproc.pc
all: $(libbproc)
libbproc: $(libbproc)

$(libbproc_objs): CPPFLAGS += -DLIBEXECDIR='"$(PREFIX)/libexec/clustermatic"'

# Only the API's names are seen outside: msgpack and ours stay within.
$(LIB)/$(LIBBPROC_SO): LDFLAGS += -shared -Wl,-soname,libbproc.so.4 \
    -Wl,--version-script=clients/libbproc/libbproc.map
$(LIB)/$(LIBBPROC_SO): LIBS = $(MP_LIBS)
$(LIB)/$(LIBBPROC_SO): $(libbproc_objs) $(LIBCM) clients/libbproc/libbproc.map
	$(LINK)
$(LIB)/libbproc.so.4: $(LIB)/$(LIBBPROC_SO)
	@ln -sf $(LIBBPROC_SO) $@
$(LIB)/libbproc.so: $(LIB)/libbproc.so.4
	@ln -sf libbproc.so.4 $@

$(LIB)/libbproc.a: $(libbproc_objs) $(LIBCM)
	@mkdir -p $(@D)
	@rm -f $@
	$(call say,AR)$(CC) -r -nostdlib -o $(B)/obj/libbproc.o $^ $(MP_LIBS) && \
	    objcopy --wildcard --keep-global-symbol='bproc_*' --keep-global-symbol='_bproc_*' \
	        $(B)/obj/libbproc.o && ar rcs $@ $(B)/obj/libbproc.o

$(B)/include/sys/bproc.h: clients/libbproc/bproc.h
	@mkdir -p $(@D)
	@cp $< $@
$(LIB)/pkgconfig/bproc.pc: clients/libbproc/bproc.pc.in
	@mkdir -p $(@D)
	@sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|4.0.0|' $< >$@

# A sanitizer's memory cannot be moved: programs that move have a library without.
ifdef SAN
all: plain-libbproc
plain-libbproc:
	@$(MAKE) --no-print-directory SAN= B=$(B)/plain libbproc
.PHONY: plain-libbproc
endif

# Each call's name leads to the page that tells of it.
libbproc_pages := bproc bproc_nodes bproc_nodeset bproc_exec bproc_move bproc_admin
libbproc_aliases := $(B)/share/man/man3/.bproc-aliases
all: $(libbproc_aliases)
$(libbproc_aliases): $(libbproc_pages:%=man/%.3.rst)
	@mkdir -p $(@D)
	@for page in $(libbproc_pages); do \
	    for name in $$(grep -o '\*\*[^*]*bproc_[a-z_]*(' man/$$page.3.rst | \
	        grep -o '_*bproc_[a-z_]*' | sort -u); do \
	        [ $$name = $$page ] || echo ".so man3/$$page.3" >$(@D)/$$name.3; done; done
	@touch $@

helpers += $(LIBEXEC)/bpfwd
$(LIBEXEC)/bpfwd: LIBS = $(MP_LIBS)
$(LIBEXEC)/bpfwd: $(call objs,clients/libbproc/bpfwd.c clients/bpsh/reader.c) $(LIBCM)
	$(LINK)

install: install-libbproc
install-libbproc: $(libbproc) $(libbproc_aliases)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/include/sys $(B)/include/sys/bproc.h
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/lib $(LIB)/$(LIBBPROC_SO)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib $(LIB)/libbproc.a
	ln -sf $(LIBBPROC_SO) $(DESTDIR)$(PREFIX)/lib/libbproc.so.4
	ln -sf libbproc.so.4 $(DESTDIR)$(PREFIX)/lib/libbproc.so
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man3 \
	    $$(grep -l '^.so' $(B)/share/man/man3/*bproc_*.3)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/pkgconfig $(LIB)/pkgconfig/bproc.pc
.PHONY: libbproc install-libbproc
