# What `make bench` measures with; never installed. Everything lands in build/bench.
BENCH := $(B)/bench
bench_bins := $(BENCH)/rep $(BENCH)/spawn $(BENCH)/busrtt $(BENCH)/rawbus $(BENCH)/echo \
              $(BENCH)/true-static $(BENCH)/pause-static $(BENCH)/forks $(BENCH)/cputime $(BENCH)/httpload $(BENCH)/pmifence $(BENCH)/moves $(BENCH)/onepacket-static

$(BENCH)/rep: $(call objs,bench/rep.c)
	$(LINK)
$(BENCH)/spawn: $(call objs,bench/spawn.c)
	$(LINK)
$(BENCH)/busrtt: LIBS = $(ZMQ_LIBS) $(MP_LIBS)
$(BENCH)/busrtt: $(call objs,bench/busrtt.c) $(LIBCM)
	$(LINK)
$(BENCH)/rawbus: LIBS = $(ZMQ_LIBS)
$(BENCH)/rawbus: $(call objs,bench/rawbus.c)
	$(LINK)
$(BENCH)/echo: LIBS = $(ZMQ_LIBS) $(MP_LIBS)
$(BENCH)/echo: $(call objs,bench/echo.c) $(LIBBUS) $(LIBCM)
	$(LINK)
$(BENCH)/forks: $(call objs,bench/forks.c)
	$(LINK)
$(BENCH)/cputime: $(call objs,bench/cputime.c)
	$(LINK)
$(BENCH)/httpload: $(call objs,bench/httpload.c)
	$(LINK)
$(BENCH)/pmifence: $(call objs,bench/pmifence.c)
	$(LINK)
$(BENCH)/moves: LIBS = -L$(LIB) -Wl,-rpath,$(abspath $(LIB)) -lbproc
$(BENCH)/moves: $(call objs,bench/moves.c) $(LIB)/libbproc.so
	$(LINK)
# Without the tree's flags: a sanitizer cannot be linked statically.
$(BENCH)/%-static: bench/%.c
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -O2 -static -s -o $@ $<
