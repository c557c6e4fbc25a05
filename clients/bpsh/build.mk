bpsh_objs := $(call objs,clients/bpsh/main.c clients/bpsh/options.c clients/bpsh/command.c \
    clients/bpsh/launch.c clients/bpsh/ghosts.c clients/bpsh/local.c clients/bpsh/procs.c \
    clients/bpsh/signals.c clients/bpsh/reader.c clients/bpsh/onward.c clients/bpsh/input.c \
    clients/bpsh/output.c clients/bpsh/sink.c clients/bpsh/fold.c clients/bpsh/bulk.c clients/bpsh/tell.c \
    clients/common/opt.c clients/common/calls.c clients/common/find.c)

bins += $(BIN)/bpsh
$(BIN)/bpsh: LIBS = $(MP_LIBS)
$(BIN)/bpsh: $(bpsh_objs) $(LIBCM)
	$(LINK)
