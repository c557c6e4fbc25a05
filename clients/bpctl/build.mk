bins += $(BIN)/bpctl
$(BIN)/bpctl: LIBS = $(MP_LIBS) $(JSON_LIBS)
$(BIN)/bpctl: $(call objs,clients/bpctl/main.c clients/bpctl/plan.c clients/bpctl/act.c \
              clients/bpctl/pending.c) $(B)/libclients.a $(LIBCM)
	$(LINK)
