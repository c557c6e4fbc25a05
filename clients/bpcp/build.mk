bins += $(BIN)/bpcp
$(BIN)/bpcp: LIBS = $(MP_LIBS) $(JSON_LIBS) -lcrypto
$(BIN)/bpcp: $(call objs,$(addprefix clients/bpcp/,main.c operand.c reach.c rounds.c send.c \
             fetch.c say.c)) $(B)/libcopy.a $(B)/libclients.a $(LIBCM)
	$(LINK)
