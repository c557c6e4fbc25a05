bins += $(BIN)/bpstat
$(BIN)/bpstat: LIBS = $(MP_LIBS) $(JSON_LIBS)
$(BIN)/bpstat: $(call objs,clients/bpstat/main.c clients/bpstat/layout.c \
               clients/bpstat/sort.c clients/bpstat/work.c clients/bpstat/procs.c \
               clients/bpstat/host.c clients/bpstat/boot.c) $(B)/libclients.a $(LIBCM)
	$(LINK)
