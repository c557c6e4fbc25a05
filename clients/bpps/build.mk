bins += $(BIN)/bpps
$(BIN)/bpps: LIBS = $(MP_LIBS) $(JSON_LIBS)
$(BIN)/bpps: $(call objs,clients/bpps/main.c clients/bpps/fetch.c clients/bpps/tree.c \
             clients/bpps/print.c clients/bpps/why.c) $(B)/libclients.a $(LIBCM)
	$(LINK)
