// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AlephToken} from "../src/AlephToken.sol";
import {Deployer} from "../src/Deployer.sol";
import {DevGateway} from "../src/dev/DevGateway.sol";
import {DevGuardian} from "../src/dev/DevGuardian.sol";
import {DevOnly} from "../src/dev/DevOnly.sol";
import {IAlephToken} from "../src/interfaces/IAlephToken.sol";
import {IDeployer} from "../src/interfaces/IDeployer.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {Suite} from "./utils/Suite.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

contract TokenTest is Suite {
    address internal constant ALICE = address(0xA11CE);

    function test_token_describesItself() public view {
        assertEq(token.name(), "Aleph");
        assertEq(token.symbol(), "ALEPH");
        assertEq(token.decimals(), 18);
        assertEq(token.gateway(), address(gateway));
        assertEq(token.l1Address(), address(0));
    }

    function testFuzz_supply_changesByBridgeAndBurnOnly(uint96 minted, uint96 bridged, uint96 burned) public {
        uint256 supply = token.totalSupply();
        minted = uint96(bound(minted, 2, type(uint96).max));
        bridged = uint96(bound(bridged, 0, minted / 2));
        burned = uint96(bound(burned, 0, minted / 2));
        gateway.mint(token, ALICE, minted);
        vm.prank(address(gateway));
        token.bridgeBurn(ALICE, bridged);
        vm.prank(ALICE);
        token.burn(burned);
        assertEq(token.totalSupply(), supply + minted - bridged - burned, "TOK-1");
    }

    function testFuzz_bridge_revertsForAnyoneElse(address caller) public {
        vm.assume(caller != address(gateway));
        bytes memory err = abi.encodeWithSelector(IAlephToken.OnlyGateway.selector, caller);
        vm.startPrank(caller);
        vm.expectRevert(err);
        token.bridgeMint(caller, 1);
        vm.expectRevert(err);
        token.bridgeBurn(caller, 1);
    }

    function test_token_revertsWithoutGateway() public {
        vm.expectRevert(AlephErrors.ZeroAddress.selector);
        new AlephToken(address(0), address(0));
    }

    function test_gateway_revertsOffTheDevelopmentChain() public {
        vm.chainId(42161);
        vm.expectRevert(abi.encodeWithSelector(DevOnly.NotADevelopmentChain.selector, 42161));
        new DevGateway(ALICE);
    }

    function test_gateway_revertsWithoutOwner() public {
        vm.expectRevert(AlephErrors.ZeroAddress.selector);
        new DevGateway(address(0));
    }

    function test_gateway_mintRevertsForAnyoneElse() public {
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, ALICE));
        vm.prank(ALICE);
        gateway.mint(token, ALICE, 1);
    }

    function test_deploy_givesTheAddressForetold() public {
        address at = deployer.addressOf("another");
        vm.expectEmit(address(deployer));
        emit IDeployer.Deployed("another", at);
        assertEq(deployer.deploy("another", type(Deployer).creationCode), at);
        assertGt(at.code.length, 0);
        vm.expectRevert();
        deployer.deploy("another", type(Deployer).creationCode);
    }

    function test_deploy_revertsForAnyoneElse() public {
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, ALICE));
        vm.prank(ALICE);
        deployer.deploy("x", hex"00");
    }

    function test_devGuardian_doesWhatItsOwnerSays() public {
        DevGuardian guardian = DevGuardian(_create(abi.encodePacked(_code("DevGuardian"), abi.encode(payer))));
        bytes memory data = abi.encodeCall(token.transfer, (address(1), 1 ether));
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        guardian.execute(address(token), data);

        gateway.mint(token, address(guardian), 1 ether);
        vm.prank(payer);
        assertEq(guardian.execute(address(token), data), abi.encode(true));
        assertEq(token.balanceOf(address(1)), 1 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientBalance.selector, address(guardian), 0, 1 ether)
        );
        vm.prank(payer);
        guardian.execute(address(token), data);
    }

    function test_devGuardian_isForDevelopmentNetworksOnly() public {
        vm.expectRevert(AlephErrors.ZeroAddress.selector);
        new DevGuardian(address(0));
        vm.chainId(42161);
        vm.expectRevert(abi.encodeWithSelector(DevOnly.NotADevelopmentChain.selector, 42161));
        new DevGuardian(address(this));
    }
}
