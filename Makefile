# One make sees the whole graph; folders add to these lists in their build.mk.
# Everything lands in build/ (build-san/ with SAN=1): bin, libexec/clustermatic, lib, ...
MAKEFLAGS += -r
.DEFAULT_GOAL := all

B := build
CC ?= cc
ifeq ($(origin CC),default)
CC := gcc
endif
CFLAGS ?= -O2 -g
CPPFLAGS += -I. -D_GNU_SOURCE -MMD -MP
CFLAGS += -std=gnu11 -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes \
          -Wmissing-prototypes -Wwrite-strings -Wvla -fno-common -fPIC
ifdef SAN
B := build-san
CFLAGS += -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined
LDFLAGS += -fsanitize=address,undefined
endif
LDFLAGS += -Wl,--as-needed

BIN := $(B)/bin
LIBEXEC := $(B)/libexec/clustermatic
LIB := $(B)/lib
PREFIX ?= /usr
DESTDIR ?=

# Filled by the build.mk files:
#   bins      programs for users            ($(BIN)/NAME)
#   helpers   services and helpers          ($(LIBEXEC)/NAME)
#   unit      unit tests, print TAP         ($(B)/tests/unit/NAME)
bins :=
helpers :=
unit :=
scripts :=

ZMQ_LIBS := -lzmq
MP_LIBS := -l:libmsgpackc.a
SQLITE_LIBS := -lsqlite3
SSL_LIBS := -lssl -lcrypto
JSON_LIBS := -ljansson

# libcm: the thread-free half (clients, bpinit); libbus: what needs ZeroMQ
LIBCM := $(B)/libcm.a
LIBBUS := $(B)/libbus.a

# One short line a step; V=1 shows the commands.
say = $(if $(V),,@echo '  $(1)  $@' && )

# objects: $(call objs,dir/a.c dir/b.c)
objs = $(patsubst %.c,$(B)/obj/%.o,$(1))

include $(sort $(wildcard */build.mk */*/build.mk))

all: $(bins) $(helpers) $(scripts)

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(CPPFLAGS) $(CFLAGS) $(EXTRA_CFLAGS) -c -o $@ $<

$(B)/%.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(call say,AR)$(AR) rcs $@ $^

# link: prerequisites that are objects or archives, then $(LIBS) of the target
define LINK
@mkdir -p $(@D)
$(call say,LD)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS)
endef

$(bins) $(helpers) $(unit): | $(B)
$(B):
	@mkdir -p $@

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
.DELETE_ON_ERROR:
.PHONY: all
include make/targets.mk
