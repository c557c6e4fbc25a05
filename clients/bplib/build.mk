bins += $(BIN)/bplib
$(BIN)/bplib: LIBS = $(MP_LIBS) $(JSON_LIBS)
$(BIN)/bplib: $(call objs,clients/bplib/main.c clients/bplib/list.c) $(B)/libclients.a $(LIBCM)
	$(LINK)
