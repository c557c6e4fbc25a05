bins += $(BIN)/bjsctl
$(BIN)/bjsctl: LIBS = $(MP_LIBS) $(JSON_LIBS)
$(BIN)/bjsctl: $(call objs,clients/bjsctl/main.c) $(B)/libclients.a $(LIBCM)
	$(LINK)
