bins += $(BIN)/bptrace
$(BIN)/bptrace: LIBS = $(MP_LIBS) $(JSON_LIBS)
$(BIN)/bptrace: $(call objs,clients/bptrace/main.c) $(B)/libclients.a $(LIBCM)
	$(LINK)
