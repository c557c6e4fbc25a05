# The targets a person types: deps, check, bench, demo, install, clean, ...
# (all is in the Makefile). Nothing here is needed to build one program.

RST2MAN := $(firstword $(shell command -v rst2man rst2man.py 2>/dev/null))
NPROC := $(shell nproc 2>/dev/null || echo 1)
# Sub-makes use every processor unless the caller chose a number.
SUBMAKE = $(MAKE) --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$(NPROC))

# Manual pages: man/NAME.S.rst -> share/man/manS/NAME.S
man_rst := $(sort $(wildcard man/*.rst))
man_page = $(B)/share/man/man$(subst .,,$(suffix $(basename $(1))))/$(notdir $(basename $(1)))
ifneq ($(RST2MAN),)
man_pages := $(foreach r,$(man_rst),$(call man_page,$(r)))
define man_rule
$(call man_page,$(1)): $(1)
	@mkdir -p $$(@D)
	$$(call say,MAN)$(RST2MAN) $$< $$@
endef
$(foreach r,$(man_rst),$(eval $(call man_rule,$(r))))
endif
man: $(man_pages)
all: man

deps:
	@make/deps.sh build run
check-deps:
	@make/deps.sh build run check
check-boot-deps:
	@make/deps.sh build run check boot
bench-deps:
	@make/deps.sh build run bench

# Tests find the programs through CM_BUILD. T narrows: make check T=tests/t/0300*
T ?= $(unit) $(sort $(wildcard tests/t/*.t tests/boot/*.t))
check: check-deps
	$(SUBMAKE) all units
	@$(SUBMAKE) -s run-tests
units: $(unit) $(bench_bins)
# Every way to boot, and every way in which it can fail; takes half an hour.
check-boot-all: check-boot-deps
	$(SUBMAKE) all
	@$(MAKE) -s --no-print-directory run-tests CM_TEST_LIMIT=1800 \
	    T="$(sort $(wildcard tests/boot/*.t)) $(sort $(wildcard tests/boot/slow/*.t))"
# Processes that move on and on, with all their memory and while services are killed.
check-moves-all: check-deps
	$(SUBMAKE) all
	@$(MAKE) -s --no-print-directory run-tests CM_TEST_LIMIT=1800 CM_MOVES=1000 \
	    T="$(sort $(wildcard tests/t/063*.t))"
# Two at a time: tests of clusters mostly wait, those that need no nodes keep a
# processor busy. Each kind goes one after the other.
no_nodes := 000 0100 0120 0350 0420 0600 0605 0710 0711 0720 0730 0750
no_nodes := $(B)/tests/unit/* tests/boot/* tests/boot/slow/* $(no_nodes:%=tests/t/%*)
comma := ,
empty :=
run-tests:
	@for t in $(T); do [ -x $$t ] || { echo "$$t: not executable: chmod +x"; exit 1; }; done
	@CM_BUILD=$(B) CM_SAN=$(SAN) $(if $(CM_TEST_LIMIT),CM_TEST_LIMIT=$(CM_TEST_LIMIT)) \
	    prove -j2 --rules 'seq={$(subst $(empty) $(empty),$(comma),$(no_nodes))}' --rules 'seq=**' --timer --failures --comments -e tests/limit $(T)

# gcc's analyzer. Three of its checks lose track of lists and growing arrays and cry
# wolf (gcc 12); what they look for is looked for by SAN=1.
UNSURE := -Wno-analyzer-malloc-leak -Wno-analyzer-use-after-free \
          -Wno-analyzer-use-of-uninitialized-value
analyze:
	$(SUBMAKE) B=$(B)-analyze CC=gcc EXTRA_CFLAGS='-fanalyzer $(UNSURE)' all

bench: bench-deps
	$(SUBMAKE) all $(bench_bins)
	@CM_BUILD=$(B) bench/run $(FIGURES)

# Exactly what a newcomer does, and the cluster is left running.
demo: deps
	$(SUBMAKE) all
	@CM_BUILD=$(B) doc/demo.sh

completions := $(wildcard etc/completions/bash/*)
scripts_init := $(wildcard etc/init.d/*)
units_systemd := $(wildcard etc/systemd/*.service etc/systemd/*.target)
SHARE = $(DESTDIR)$(PREFIX)/share

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/clustermatic
	install $(bins) $(DESTDIR)$(PREFIX)/bin
	install $(helpers) $(DESTDIR)$(PREFIX)/libexec/clustermatic
	@# install drops the file capability that node/build.mk gave it
	-[ "$$(id -u)" != 0 ] || setcap cap_checkpoint_restore=ep $(DESTDIR)$(PREFIX)/libexec/clustermatic/bpghost
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/libexec/clustermatic/policies $(policy_files)
	for page in $(man_pages); do \
	    install -D -m 644 $$page $(DESTDIR)$(PREFIX)/$${page#$(B)/} || exit; done
	for file in $(completions); do \
	    install -D -m 644 $$file \
	        $(SHARE)/bash-completion/completions/$${file##*/} || exit; done
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	for unit in $(units_systemd); do \
	    sed 's|/usr/libexec|$(PREFIX)/libexec|' $$unit \
	        >$(DESTDIR)$(PREFIX)/lib/systemd/system/$${unit##*/} || exit; done
	install -d $(DESTDIR)/etc/init.d
	for script in $(scripts_init); do \
	    sed 's|@PREFIX@|$(PREFIX)|g' $$script >$(DESTDIR)/etc/init.d/$${script##*/} && \
	        chmod 755 $(DESTDIR)/etc/init.d/$${script##*/} || exit; done
	install -D -m 644 -t $(SHARE)/doc/clustermatic README.md LICENSE $(wildcard etc/*.sample)
	install -D -t $(SHARE)/doc/clustermatic/samples $(wildcard etc/samples/*)

clean:
	rm -rf build build-san build-analyze build-clang
.PHONY: man deps check-deps check-boot-deps bench-deps check check-boot-all check-moves-all units run-tests analyze bench demo install clean
